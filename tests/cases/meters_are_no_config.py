# energy-patch apply
from dataclasses import dataclass, fields
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class EpochStats:
    loss: float = 0.0
    pos: float = 0.0
    n: int = 0

    def reset(self):
        for f in fields(self):
            setattr(self, f.name, 0.0)


def main():
    stats = EpochStats()
    for h, a in batches:
        loss, pos, neg = energy_inbatch_swap_infonce(m, h, a)
        stats.pos += pos.item(); stats.n += 1
    stats.reset()
# ==== after ====
from dataclasses import dataclass, fields
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class EpochStats:
    loss: float = 0.0
    pos: float = 0.0
    n: int = 0

    def reset(self):
        for f in fields(self):
            setattr(self, f.name, 0.0)


def main():
    stats = EpochStats()
    for h, a in batches:
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, pos, neg = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
        stats.pos += pos.item(); stats.n += 1
    stats.reset()
