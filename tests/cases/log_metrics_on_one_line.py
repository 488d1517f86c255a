# energy-patch apply --log-metrics
from energy.energy_model import energy_inbatch_swap_infonce


def run(m, h, a):
    loss, E_pos, _ = energy_inbatch_swap_infonce(m, h, a)
    return {"loss": loss, "E_pos": E_pos, **extra}
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.metrics import latest_metrics
from energy_losses.ranks import replicate


def run(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, E_pos, _ = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    return {"loss": loss, "E_pos": E_pos, "energy_top1": latest_metrics()["top1"], "energy_loss_over_log_n": latest_metrics()["loss_over_log_n"], "energy_margin": latest_metrics()["margin"], **extra}
