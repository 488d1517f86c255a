# energy-patch apply
import typing as t

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class State(t.NamedTuple):
    policy: torch.nn.Module
    energy: torch.nn.Module
    optimizer: torch.optim.Optimizer


class Algorithm:
    @classmethod
    def create(cls, lr=1e-3) -> State:
        energy = EnergyModel()
        return State(Policy(), energy, torch.optim.AdamW(energy.parameters(), lr=lr))

    @staticmethod
    def step(state: State, batch: t.Mapping[str, torch.Tensor]) -> t.Dict[str, float]:
        hidden = state.policy(batch["observation"])[0].detach()
        loss, pos, neg = energy_inbatch_swap_infonce(state.energy, hidden, batch["actions"], batch["pad_mask"])
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        return dict(loss=float(loss.detach()), pos=float(pos.detach()), neg=float(neg.detach()))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    state = Algorithm.create()
    for batch in get_loader():
        metrics = Algorithm.step(state, batch)
# ==== after ====
import typing as t

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class State(t.NamedTuple):
    policy: torch.nn.Module
    energy: torch.nn.Module
    optimizer: torch.optim.Optimizer


class Algorithm:
    @classmethod
    def create(cls, lr=1e-3) -> State:
        energy = EnergyModel()
        return State(Policy(), energy, torch.optim.AdamW(energy.parameters(), lr=lr))

    @staticmethod
    def step(state: State, batch: t.Mapping[str, torch.Tensor]) -> t.Dict[str, float]:
        hidden = state.policy(batch["observation"])[0].detach()
        replicate(state.energy)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, pos, neg = distributed_energy_inbatch_swap_infonce(state.energy, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        return dict(loss=float(loss.detach()), pos=float(pos.detach()), neg=float(neg.detach()))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    state = Algorithm.create()
    for batch in get_loader():
        metrics = Algorithm.step(state, batch)
