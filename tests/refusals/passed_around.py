# energy-patch apply
# refused (unsupported), line 6: is given another name here, not called
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a, mask, *args, **kw):
    return energy_inbatch_swap_infonce(m, h, a, mask)
loss = energy_inbatch_swap_infonce
