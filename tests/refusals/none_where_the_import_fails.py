# energy-patch apply --no-sync
# refused (ambiguous), line 7: bound on line 6
try:
    from energy.energy_model import energy_inbatch_swap_infonce
except ImportError:
    energy_inbatch_swap_infonce = None
x = energy_inbatch_swap_infonce(m, h, a)
