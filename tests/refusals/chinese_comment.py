# energy-patch apply
# refused (not-found): line 4: a call in a comment
from energy.energy_model import energy_inbatch_swap_infonce
# 旧的: energy_inbatch_swap_infonce(m, h, a)
