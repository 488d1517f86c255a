# energy-patch apply
# refused (not-found): line 4: cannot tell where this name comes from; import it explicitly
from energy.energy_model import *
x = energy_inbatch_swap_infonce(m, h, a)
