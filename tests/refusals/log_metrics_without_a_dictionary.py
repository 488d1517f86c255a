# energy-patch apply --log-metrics
# refused (unsupported), line 7: and paste where you log: `from energy_losses.metrics import latest_metrics` and
from energy.energy_model import energy_inbatch_swap_infonce


def run(m, h, a):
    loss, E_pos, E_neg = energy_inbatch_swap_infonce(m, h, a)
    print(E_pos)
    return loss
