# energy-patch apply
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

dist.init_process_group("gloo")
policy = Policy()
model = EnergyModel()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)

for batch in get_loader():
    h = policy(batch["observation"])[0].detach()

    def closure():
        opt.zero_grad()
        loss, _, _ = energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"])
        loss.backward()
        return loss

    opt.step(closure)
# ==== after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

dist.init_process_group("gloo")
policy = Policy()
model = EnergyModel()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)

for batch in get_loader():
    h = policy(batch["observation"])[0].detach()

    def closure():
        opt.zero_grad()
        replicate(model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        loss.backward()
        return loss

    opt.step(closure)
