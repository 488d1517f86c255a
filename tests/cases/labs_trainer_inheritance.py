# energy-patch apply
import abc

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce as nce
from policy import Policy


class BaseTrainer(abc.ABC):
    def __init__(self, model, optim, cfg):
        self.model, self.optim, self.cfg = model, optim, cfg

    @abc.abstractmethod
    def loss(self, batch): ...

    def run(self, loader):
        for batch in loader:
            self.optim.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            self.optim.step()


class EnergyTrainer(BaseTrainer):
    def __init__(self, policy, **kw):
        super().__init__(**kw)
        self.policy = policy

    @property
    def energy_model(self):
        return self.model

    def loss(self, batch):
        with torch.no_grad():
            hidden, _ = self.policy(batch["observation"])
        return nce(self.energy_model, hidden, batch["actions"], batch["pad_mask"])[0] * self.cfg["weight"]


def main():
    dist.init_process_group("gloo")
    energy = EnergyModel()
    trainer = EnergyTrainer(Policy(), model=energy, optim=torch.optim.Adam(energy.parameters()), cfg={"weight": 2.0})
    trainer.run(get_loader())


main()
# ==== after ====
import abc

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce as nce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class BaseTrainer(abc.ABC):
    def __init__(self, model, optim, cfg):
        self.model, self.optim, self.cfg = model, optim, cfg

    @abc.abstractmethod
    def loss(self, batch): ...

    def run(self, loader):
        for batch in loader:
            self.optim.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            self.optim.step()


class EnergyTrainer(BaseTrainer):
    def __init__(self, policy, **kw):
        super().__init__(**kw)
        self.policy = policy

    @property
    def energy_model(self):
        return self.model

    def loss(self, batch):
        with torch.no_grad():
            hidden, _ = self.policy(batch["observation"])
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0] * self.cfg["weight"]


def main():
    dist.init_process_group("gloo")
    energy = EnergyModel()
    trainer = EnergyTrainer(Policy(), model=energy, optim=torch.optim.Adam(energy.parameters()), cfg={"weight": 2.0})
    trainer.run(get_loader())


main()
