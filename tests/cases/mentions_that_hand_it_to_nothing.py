# energy-patch apply
def load():
    global energy_inbatch_swap_infonce
    from energy.energy_model import energy_inbatch_swap_infonce
    assert callable(energy_inbatch_swap_infonce), energy_inbatch_swap_infonce.__name__

def train(m, h, a):
    global energy_inbatch_swap_infonce
    try:
        energy_inbatch_swap_infonce
    except NameError:
        load()
    loss = energy_inbatch_swap_infonce(m, h, a)[0]
    del energy_inbatch_swap_infonce
    return loss
# ==== after ====
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
def load():
    global energy_inbatch_swap_infonce
    from energy.energy_model import energy_inbatch_swap_infonce
    assert callable(energy_inbatch_swap_infonce), energy_inbatch_swap_infonce.__name__

def train(m, h, a):
    global energy_inbatch_swap_infonce
    try:
        energy_inbatch_swap_infonce
    except NameError:
        load()
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]
    del energy_inbatch_swap_infonce
    return loss
