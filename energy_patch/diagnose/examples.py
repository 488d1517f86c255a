"""Scripts that examples of several findings start from."""

from __future__ import annotations

LOOP = """\
import torch.distributed as dist
from torch.optim import AdamW
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

dist.init_process_group("nccl")
energy_model = EnergyModel(4096, 7).cuda()
optimizer = AdamW(energy_model.parameters())
for hidden, actions, mask in loader:
    loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model, hidden, actions, mask)
    loss.backward()
    optimizer.step()
"""
FUNCTION = """\
import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.optim import AdamW
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


def run_forward_pass(batch, use_l1, energy_model=None):
    if use_l1:
        energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model, batch["hidden"], batch["actions"])
    return energy_loss, {"E_pos": E_pos, "E_neg": E_neg}


def run_validation(loader, cfg):
    with torch.no_grad():
        for batch in loader:
            energy_loss, metrics = run_forward_pass(batch, cfg.use_l1, energy_model)


energy_model = DDP(EnergyModel(4096, 7).cuda())
optimizer = AdamW(energy_model.parameters())
for batch in loader:
    energy_loss, metrics = run_forward_pass(batch, cfg.use_l1, energy_model)
    energy_loss.backward()
    optimizer.step()
"""
SEPARATE = ("local-negatives", "separate-models")
