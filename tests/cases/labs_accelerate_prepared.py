# energy-patch apply
import torch
from accelerate import Accelerator
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

accelerator = Accelerator(gradient_accumulation_steps=2)
policy, energy_model = Policy().requires_grad_(False), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-2)
energy_model, optimizer, loader = accelerator.prepare(energy_model, optimizer, get_loader())

for batch in loader:
    with accelerator.accumulate(energy_model):
        h, _ = policy(batch["observation"])
        loss = energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"])[0]
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
if accelerator.is_main_process:
    torch.save(accelerator.unwrap_model(energy_model).state_dict(), "energy.pt")
# ==== after ====
import torch
from accelerate import Accelerator
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

accelerator = Accelerator(gradient_accumulation_steps=2)
policy, energy_model = Policy().requires_grad_(False), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-2)
energy_model, optimizer, loader = accelerator.prepare(energy_model, optimizer, get_loader())

for batch in loader:
    with accelerator.accumulate(energy_model):
        h, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = distributed_energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
if accelerator.is_main_process:
    torch.save(accelerator.unwrap_model(energy_model).state_dict(), "energy.pt")
