# energy-patch apply
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

def forward_backward(policy, energy_model, batch, device_type="cpu"):
    with torch.autocast(device_type, dtype=torch.bfloat16):
        hidden, actions = policy(batch["observation"])
        bc = (actions - batch["actions"]).abs().mean()
        with torch.autocast(device_type, enabled=False), torch.enable_grad(): energy_loss, *_ = energy_inbatch_swap_infonce(energy_model, hidden.detach().float(), batch["actions"].float(), batch["pad_mask"])
    bc.backward()
    energy_loss.backward()
    return energy_loss.item()

if __name__ == "__main__":
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optims = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (policy, energy_model)]
    for batch in get_loader():
        [o.zero_grad() for o in optims]
        forward_backward(policy, energy_model, batch)
        [o.step() for o in optims]
# ==== after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

def forward_backward(policy, energy_model, batch, device_type="cpu"):
    with torch.autocast(device_type, dtype=torch.bfloat16):
        hidden, actions = policy(batch["observation"])
        bc = (actions - batch["actions"]).abs().mean()
        with torch.autocast(device_type, enabled=False), torch.enable_grad(): energy_loss, *_ = distributed_energy_inbatch_swap_infonce(replicate(energy_model), hidden.detach().float(), batch["actions"].float(), batch["pad_mask"], tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
    bc.backward()
    energy_loss.backward()
    return energy_loss.item()

if __name__ == "__main__":
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optims = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (policy, energy_model)]
    for batch in get_loader():
        [o.zero_grad() for o in optims]
        forward_backward(policy, energy_model, batch)
        [o.step() for o in optims]
