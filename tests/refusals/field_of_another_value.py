# energy-patch apply --no-sync --tau 0.5
# refused (conflict), line 8: energy_tau = 0.2
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass
@dataclass
class Config:
    lr: float = 1e-3
    energy_tau: float = 0.2
def run(m, h, a, cfg: Config):
    return energy_inbatch_swap_infonce(m, h, a)
