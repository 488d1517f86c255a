# energy-patch apply
# refused (unsupported), line 7: the loss on line 9 is computed only where a condition on the rank holds
from energy.energy_model import energy_inbatch_swap_infonce
def train(rank, m, loader):
    for h, a in loader:
        try:
            if rank >= 8:
                raise ValueError(rank)
            loss = energy_inbatch_swap_infonce(m, h, a)[0]
        except ValueError:
            continue
