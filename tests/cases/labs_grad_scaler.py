# energy-patch apply
import torch
import torch.distributed as dist
from torch.cuda.amp import GradScaler, autocast

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
scaler = GradScaler(enabled=torch.cuda.is_available())

for batch in get_loader():
    optimizer.zero_grad(set_to_none=True)
    with autocast(enabled=torch.cuda.is_available()):
        hidden, _ = policy(batch["observation"])
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
# ==== after ====
import torch
import torch.distributed as dist
from torch.cuda.amp import GradScaler, autocast

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
scaler = GradScaler(enabled=torch.cuda.is_available())

for batch in get_loader():
    optimizer.zero_grad(set_to_none=True)
    with autocast(enabled=torch.cuda.is_available()):
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
