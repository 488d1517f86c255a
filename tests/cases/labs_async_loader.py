# energy-patch apply
import asyncio
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class StreamConfig:
    lr: float = 1e-3
    depth: int = 2


async def stream(config: StreamConfig):
    queue: asyncio.Queue = asyncio.Queue(config.depth)

    async def produce():
        for batch in get_loader():
            await queue.put(batch)
        await queue.put(None)

    task = asyncio.create_task(produce())
    while (batch := await queue.get()) is not None:
        yield batch
    await task


async def train(config: StreamConfig):
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=config.lr)
    async for batch in stream(config):
        hidden, _ = policy(batch["observation"])
        loss, _, _ = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    asyncio.run(train(StreamConfig()))
# ==== after ====
import asyncio
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class StreamConfig:
    lr: float = 1e-3
    depth: int = 2
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


async def stream(config: StreamConfig):
    queue: asyncio.Queue = asyncio.Queue(config.depth)

    async def produce():
        for batch in get_loader():
            await queue.put(batch)
        await queue.put(None)

    task = asyncio.create_task(produce())
    while (batch := await queue.get()) is not None:
        yield batch
    await task


async def train(config: StreamConfig):
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=config.lr)
    async for batch in stream(config):
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=config.energy_tau, world_size=world_size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    asyncio.run(train(StreamConfig()))
