# energy-patch apply
# refused (unsupported), line 11: compute it on a line of its own above
from dataclasses import dataclass
from energy.energy_model import energy_inbatch_swap_infonce
@dataclass
class Config:
    lr: float = 1e-4
def part(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)[0]
def run(m, h, a, cfg: Config):
    return energy_inbatch_swap_infonce(m, h, part(m, h, a))
