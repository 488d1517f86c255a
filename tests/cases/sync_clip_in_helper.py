# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
def clip(model):
    clip_grad_norm_(model.parameters(), 1.0)
energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
for h, a in loader:
    energy_inbatch_swap_infonce(energy_model, h, a)[0].backward()
    clip(energy_model)
    optimizer.step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import average_gradients, broadcast_parameters
def clip(model):
    clip_grad_norm_(model.parameters(), 1.0)
energy_model = EnergyModel()
broadcast_parameters(energy_model)
optimizer = AdamW(energy_model.parameters())
for h, a in loader:
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[0].backward()
    average_gradients(energy_model)
    clip(energy_model)
    optimizer.step()
