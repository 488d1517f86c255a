# energy-patch apply
# refused (unsupported), line 8: among the arguments of the one on line 5
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a):
    return energy_inbatch_swap_infonce(
        m,
        h,
        energy_inbatch_swap_infonce(m, h, a)[1],
    )
