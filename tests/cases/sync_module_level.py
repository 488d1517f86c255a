# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
for h, a, mask in loader:
    loss, pos, neg = energy_inbatch_swap_infonce(energy_model, h, a, mask)
    loss.backward()
    optimizer.step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

energy_model = EnergyModel()
optimizer = AdamW(energy_model.parameters())
for h, a, mask in loader:
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, pos, neg = distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=0.07, world_size=world_size)
    loss.backward()
    optimizer.step()
