# energy-patch apply --no-sync
# refused (unsupported), line 5: compute the loss on every rank, or under torch.no_grad()
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a):
    if dist.get_rank() == 0:
        return energy_inbatch_swap_infonce(m, h, a)
