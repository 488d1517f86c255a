# energy-patch apply --log-metrics
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from collections import deque


def run(m, h, a, mask):
    loss, e_pos, e_neg = energy_inbatch_swap_infonce(m, h, a, mask)
    metrics = {"loss": loss.item()}
    metrics.update(
        {
            "Positive_Energy": e_pos.item(),
            "Negative_Energy": e_neg.item(),
        }
    )
    return loss, metrics


def train(m, loader):
    recent = {
        "loss": deque(maxlen=8),
        "Positive_Energy": deque(maxlen=8),
        "Negative_Energy": deque(maxlen=8),
    }
    log = Log(["loss", "Positive_Energy", "Negative_Energy"])
    for h, a, mask in loader:
        loss, metrics = run(m, h, a, mask)
        for name, value in metrics.items():
            if name in recent:
                recent[name].append(value)
        loss.backward()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.metrics import latest_metrics
from energy_losses.ranks import replicate
from collections import deque


def run(m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.07, world_size=world_size)
    metrics = {"loss": loss.item()}
    metrics.update(
        {
            "Positive_Energy": e_pos.item(),
            "Negative_Energy": e_neg.item(),
            "energy_top1": latest_metrics()["top1"].item(),
            "energy_loss_over_log_n": latest_metrics()["loss_over_log_n"].item(),
            "energy_margin": latest_metrics()["margin"].item(),
        }
    )
    return loss, metrics


def train(m, loader):
    recent = {
        "loss": deque(maxlen=8),
        "Positive_Energy": deque(maxlen=8),
        "Negative_Energy": deque(maxlen=8),
        "energy_top1": deque(maxlen=8),
        "energy_loss_over_log_n": deque(maxlen=8),
        "energy_margin": deque(maxlen=8),
    }
    log = Log(["loss", "Positive_Energy", "Negative_Energy", "energy_top1", "energy_loss_over_log_n", "energy_margin"])
    for h, a, mask in loader:
        loss, metrics = run(m, h, a, mask)
        for name, value in metrics.items():
            if name in recent:
                recent[name].append(value)
        loss.backward()
