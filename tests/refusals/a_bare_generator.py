# energy-patch apply --no-sync
# refused (unsupported), line 11: a generator without parentheses
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass
@dataclass
class Config:
    lr: float = 1e-3
def run(m):
    return energy_inbatch_swap_infonce(m, h, a)
def main(cfg: Config):
    run(x for x in y)
