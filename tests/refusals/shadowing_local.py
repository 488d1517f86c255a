# energy-patch apply
# refused (not-found): line 5: a call of what line 4 gives this name; give that another name
from energy.energy_model import energy_inbatch_swap_infonce
def run(energy_inbatch_swap_infonce, m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)
