# energy-patch apply
# ==== train.py ====
import torch.distributed as dist

import base
from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy


class FrozenPolicyTrainer(base.Trainer):
    def features(self, batch):
        return self.policy(batch["observation"])[0].detach()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    FrozenPolicyTrainer(Policy(), EnergyModel()).run(get_loader())
# ==== base.py ====
import abc

import torch

from energy.energy_model import energy_inbatch_swap_infonce


class Trainer(abc.ABC):
    def __init__(self, policy, energy_model):
        self.policy, self.energy_model = policy, energy_model
        self.optimizer = torch.optim.SGD(energy_model.parameters(), lr=0.1)

    @abc.abstractmethod
    def features(self, batch): ...

    def loss(self, batch):
        h = self.features(batch)
        return energy_inbatch_swap_infonce(self.energy_model, h, batch["actions"], batch["pad_mask"])[0]

    def run(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.loss(batch).backward()
            self.optimizer.step()
# ==== base.py, after ====
import abc

import torch

from energy.energy_model import energy_inbatch_swap_infonce


class Trainer(abc.ABC):
    def __init__(self, policy, energy_model):
        self.policy, self.energy_model = policy, energy_model
        self.optimizer = torch.optim.SGD(energy_model.parameters(), lr=0.1)

    @abc.abstractmethod
    def features(self, batch): ...

    def loss(self, batch):
        import torch.distributed as dist
        from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
        from energy_losses.ranks import replicate
        h = self.features(batch)
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]

    def run(self, loader):
        for batch in loader:
            self.optimizer.zero_grad()
            self.loss(batch).backward()
            self.optimizer.step()
