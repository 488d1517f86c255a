# energy-patch apply
import pytorch_lightning as pl
import torch
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class LitEnergy(pl.LightningModule):
    def __init__(self, learning_rate=1e-2):
        super().__init__()
        self.learning_rate = learning_rate
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.criterion = nn.SmoothL1Loss()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def training_step(self, batch, batch_idx):
        h, pred = self.policy(batch["observation"])
        nce, pos, neg = energy_inbatch_swap_infonce(self.energy_model, h.detach(), batch["actions"], batch["pad_mask"])
        self.log("gap", neg - pos)
        return self.criterion(pred, batch["actions"]) + nce


def cli_main():
    trainer = pl.Trainer(max_epochs=1, strategy="ddp", gradient_clip_val=1.0)
    trainer.fit(LitEnergy(), train_dataloaders=get_loader())


if __name__ == "__main__":
    cli_main()
# ==== after ====
import pytorch_lightning as pl
import torch
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class LitEnergy(pl.LightningModule):
    def __init__(self, learning_rate=1e-2):
        super().__init__()
        self.learning_rate = learning_rate
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.criterion = nn.SmoothL1Loss()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def training_step(self, batch, batch_idx):
        h, pred = self.policy(batch["observation"])
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        nce, pos, neg = distributed_energy_inbatch_swap_infonce(self.energy_model, h.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        self.log("gap", neg - pos)
        return self.criterion(pred, batch["actions"]) + nce


def cli_main():
    trainer = pl.Trainer(max_epochs=1, strategy="ddp", gradient_clip_val=1.0)
    trainer.fit(LitEnergy(), train_dataloaders=get_loader())


if __name__ == "__main__":
    cli_main()
