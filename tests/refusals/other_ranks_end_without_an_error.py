# energy-patch apply
# refused (unsupported), line 5: the loss on line 7 is computed only where a condition on the rank holds
from energy.energy_model import energy_inbatch_swap_infonce
def train(rank, m, h, a):
    if rank >= 8:
        raise SystemExit(0)
    return energy_inbatch_swap_infonce(m, h, a)[0]
