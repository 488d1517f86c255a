# energy-patch apply --no-sync
# refused (unsupported), line 7: a condition on the rank
from energy.energy_model import energy_inbatch_swap_infonce
def run(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)
def main(is_main_process):
    if is_main_process:
        run(m, h, a)
