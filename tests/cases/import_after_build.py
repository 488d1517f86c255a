# energy-patch apply
import torch
import torch.distributed as dist
energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
from e import energy_inbatch_swap_infonce
for h, a in loader:
    energy_inbatch_swap_infonce(energy_model, h, a)[0].backward()
    optimizer.step()
# ==== after ====
import torch
import torch.distributed as dist
energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
from e import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
for h, a in loader:
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[0].backward()
    optimizer.step()
