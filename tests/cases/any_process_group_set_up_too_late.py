# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce
def train(model):
    dist.init_process_group()
    optimizer = AdamW(model.parameters())
    for h, a in loader:
        energy_inbatch_swap_infonce(model, h, a)[0].backward()
        optimizer.step()
model = EnergyModel()
train(model)
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as torch_distributed
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
def train(model):
    dist.init_process_group()
    optimizer = AdamW(model.parameters())
    for h, a in loader:
        replicate(model)
        world_size = torch_distributed.get_world_size() if torch_distributed.is_initialized() else 1
        distributed_energy_inbatch_swap_infonce(model, h, a, tau=0.07, world_size=world_size)[0].backward()
        optimizer.step()
model = EnergyModel()
train(model)
