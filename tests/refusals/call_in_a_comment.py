# energy-patch apply
# refused (not-found): line 4: a call in a comment
from energy.energy_model import energy_inbatch_swap_infonce
# loss = energy_inbatch_swap_infonce(m, h, a)
