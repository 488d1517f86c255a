# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def count_parameters(module, name):
    print(name, sum(p.numel() for p in module.parameters()))


def main(vla):
    vla = DDP(vla)
    energy_model = EnergyModel().cuda()
    count_parameters(vla, "vla")
    count_parameters(energy_model, "energy_model")
    optimizer = AdamW(vla.parameters())
    energy_optimizer = AdamW(energy_model.parameters())
    for h, a, mask in loader:
        loss, _, _ = energy_inbatch_swap_infonce(energy_model, h, a, mask, 0.5)
        loss.backward()
        optimizer.step()
        energy_optimizer.step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import average_gradients, broadcast_parameters


def count_parameters(module, name):
    print(name, sum(p.numel() for p in module.parameters()))


def main(vla):
    vla = DDP(vla)
    energy_model = EnergyModel().cuda()
    broadcast_parameters(energy_model)
    count_parameters(vla, "vla")
    count_parameters(energy_model, "energy_model")
    optimizer = AdamW(vla.parameters())
    energy_optimizer = AdamW(energy_model.parameters())
    for h, a, mask in loader:
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, 0.5, world_size=world_size)
        loss.backward()
        optimizer.step()
        average_gradients(energy_model)
        energy_optimizer.step()
