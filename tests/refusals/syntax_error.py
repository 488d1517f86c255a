# energy-patch apply
# refused (unreadable), line 4: not valid Python
from energy.energy_model import energy_inbatch_swap_infonce
def run(:
    pass
