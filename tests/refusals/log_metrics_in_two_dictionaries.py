# energy-patch apply --log-metrics
# refused (unsupported), line 7: has 2 dictionaries that do
from energy.energy_model import energy_inbatch_swap_infonce


def run(m, h, a):
    loss, E_pos, E_neg = energy_inbatch_swap_infonce(m, h, a)
    wandb.log({"E_pos": E_pos})
    return loss, {"E_neg": E_neg}
