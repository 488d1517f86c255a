# energy-patch apply --no-sync --tau 0.5
# refused (conflict), line 5: already passes tau=0.7, and --tau 0.5 was given too; leave --tau out and write tau=0.5 on line 5
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a, mask, *args, **kw):
    return energy_inbatch_swap_infonce(m, h, a, mask, 0.7)
