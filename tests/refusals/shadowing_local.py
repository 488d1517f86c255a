# energy-patch apply
# refused (not-found): line 5: a call of a name that means something else here
from energy.energy_model import energy_inbatch_swap_infonce
def run(energy_inbatch_swap_infonce, m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)
