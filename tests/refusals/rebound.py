# energy-patch apply
# refused (ambiguous), line 6: bound on line 5
from energy.energy_model import energy_inbatch_swap_infonce
if FAST:
    energy_inbatch_swap_infonce = other
x = energy_inbatch_swap_infonce(m, h, a)
