# energy-patch apply
# refused (not-found): line 3: star import of energy.energy_model
from energy.energy_model import *
x = energy_inbatch_swap_infonce(m, h, a)
