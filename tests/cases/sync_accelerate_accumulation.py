# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
for h, a in loader:
    l = energy_inbatch_swap_infonce(energy_model, h, a)[0]
    accelerator.backward(l)
    if accelerator.sync_gradients:
        accelerator.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
for h, a in loader:
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    l = distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[0]
    accelerator.backward(l)
    if accelerator.sync_gradients:
        accelerator.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
