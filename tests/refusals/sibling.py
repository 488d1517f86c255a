# energy-patch apply
# refused (not-found): line 4: energy_inbatch_swap_infonce_2d, another loss
from energy.energy_model import energy_inbatch_swap_infonce_2d
x = energy_inbatch_swap_infonce_2d(m, h, a)
