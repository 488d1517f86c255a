# energy-patch apply
import lightning as L
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class EnergyVLA(L.LightningModule):
    def __init__(self, lr: float = 1e-3, tau: float = 0.5):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.lr, self.tau = lr, tau
        self.policy = Policy()
        # A list keeps it out of the checkpoint of the policy.
        self._energy = [EnergyModel()]

    def on_train_start(self):
        self._energy[0].to(next(self.policy.parameters()).device)

    def configure_optimizers(self):
        return [
            torch.optim.AdamW(self.policy.parameters(), lr=self.lr),
            torch.optim.AdamW(self._energy[0].parameters(), lr=self.lr),
        ]

    def training_step(self, batch, batch_idx):
        opt_policy, opt_energy = self.optimizers()
        hidden, pred = self.policy(batch["observation"])
        loss = torch.nn.functional.mse_loss(pred, batch["actions"])
        opt_policy.zero_grad()
        opt_energy.zero_grad()
        self.manual_backward(loss)
        e_loss, e_pos, _ = energy_inbatch_swap_infonce(self._energy[0], hidden.detach(), batch["actions"], batch["pad_mask"], self.tau)
        self.manual_backward(e_loss)
        opt_policy.step()
        opt_energy.step()
        self.log("train/e_pos", e_pos, prog_bar=True)


if __name__ == "__main__":
    L.seed_everything(7)
    L.Trainer(max_epochs=1, devices=8, strategy="ddp").fit(EnergyVLA(), get_loader())
# ==== after ====
import lightning as L
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class EnergyVLA(L.LightningModule):
    def __init__(self, lr: float = 1e-3, tau: float = 0.5):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.lr, self.tau = lr, tau
        self.policy = Policy()
        # A list keeps it out of the checkpoint of the policy.
        self._energy = [EnergyModel()]

    def on_train_start(self):
        self._energy[0].to(next(self.policy.parameters()).device)

    def configure_optimizers(self):
        return [
            torch.optim.AdamW(self.policy.parameters(), lr=self.lr),
            torch.optim.AdamW(self._energy[0].parameters(), lr=self.lr),
        ]

    def training_step(self, batch, batch_idx):
        opt_policy, opt_energy = self.optimizers()
        hidden, pred = self.policy(batch["observation"])
        loss = torch.nn.functional.mse_loss(pred, batch["actions"])
        opt_policy.zero_grad()
        opt_energy.zero_grad()
        self.manual_backward(loss)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        e_loss, e_pos, _ = distributed_energy_inbatch_swap_infonce(replicate(self._energy[0]), hidden.detach(), batch["actions"], batch["pad_mask"], self.tau, world_size=world_size)
        self.manual_backward(e_loss)
        opt_policy.step()
        opt_energy.step()
        self.log("train/e_pos", e_pos, prog_bar=True)


if __name__ == "__main__":
    L.seed_everything(7)
    L.Trainer(max_epochs=1, devices=8, strategy="ddp").fit(EnergyVLA(), get_loader())
