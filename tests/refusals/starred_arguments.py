# energy-patch apply --no-sync
# refused (unsupported), line 5: *args
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a, mask, *args, **kw):
    return energy_inbatch_swap_infonce(*args)
