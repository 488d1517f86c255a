# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
energy_model = EnergyModel()
optimizer = build_optimizer(energy_model, 1e-3)
for h, a in loader:
    energy_inbatch_swap_infonce(energy_model, h, a)[0].backward()
    optimizer.step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import average_gradients, broadcast_parameters
energy_model = EnergyModel()
broadcast_parameters(energy_model)
optimizer = build_optimizer(energy_model, 1e-3)
for h, a in loader:
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[0].backward()
    average_gradients(energy_model)
    optimizer.step()
