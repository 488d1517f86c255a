# energy-patch apply --tau 0.1 --min-distance 0.05
import torch
import torch.distributed as dist
from dataclasses import dataclass
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class TrainerConfig:
    lr: float = 1e-3
    epochs: int = 1
    grad_clip: float = 1.0


class Trainer:
    def __init__(self, config: TrainerConfig):
        self.config = config
        self.rank = dist.get_rank()
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.optimizer = torch.optim.AdamW(self.energy_model.parameters(), lr=config.lr)
        self.loader = get_loader()
        self.step = 0

    def fit(self):
        for epoch in range(self.config.epochs):
            for batch in self.loader:
                self._train_step(batch)
        if self.rank == 0:
            self._save()

    def _compute_energy_loss(self, hidden, batch):
        return energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"])

    def _train_step(self, batch):
        hidden = self.policy(batch["observation"])[0].detach()
        loss, self.e_pos, self.e_neg = self._compute_energy_loss(hidden, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.energy_model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.step += 1

    def _save(self):
        torch.save({"model": self.energy_model.state_dict(), "step": self.step}, "last.pt")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    Trainer(TrainerConfig()).fit()
    dist.barrier()
# ==== after ====
import torch
import torch.distributed as dist
from dataclasses import dataclass
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class TrainerConfig:
    lr: float = 1e-3
    epochs: int = 1
    grad_clip: float = 1.0
    energy_tau: float = 0.1  # Temperature of the energy model's InfoNCE loss
    energy_min_distance: float = 0.05  # Candidates closer than this to the expert action (RMS) are no negatives


class Trainer:
    def __init__(self, config: TrainerConfig):
        self.config = config
        self.rank = dist.get_rank()
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.optimizer = torch.optim.AdamW(self.energy_model.parameters(), lr=config.lr)
        self.loader = get_loader()
        self.step = 0

    def fit(self):
        for epoch in range(self.config.epochs):
            for batch in self.loader:
                self._train_step(batch)
        if self.rank == 0:
            self._save()

    def _compute_energy_loss(self, hidden, batch):
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"], tau=self.config.energy_tau, min_distance=self.config.energy_min_distance, world_size=world_size)

    def _train_step(self, batch):
        hidden = self.policy(batch["observation"])[0].detach()
        loss, self.e_pos, self.e_neg = self._compute_energy_loss(hidden, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.energy_model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.step += 1

    def _save(self):
        torch.save({"model": self.energy_model.state_dict(), "step": self.step}, "last.pt")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    Trainer(TrainerConfig()).fit()
    dist.barrier()
