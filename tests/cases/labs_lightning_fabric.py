# energy-patch apply
import lightning as L
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def train(fabric: L.Fabric, lr: float = 1e-3) -> None:
    with torch.device("cpu"):
        policy, energy = Policy(), EnergyModel()
    policy, policy_opt = fabric.setup(policy, torch.optim.SGD(policy.parameters(), lr))
    energy_opt = torch.optim.SGD(energy.parameters(), lr, momentum=0.9)
    for i, batch in enumerate(fabric.setup_dataloaders(get_loader())):
        hidden, action = policy(batch["observation"])
        policy_opt.zero_grad()
        fabric.backward((action - batch["actions"]).square().mean())
        policy_opt.step()

        energy_opt.zero_grad()
        fabric.backward(energy_inbatch_swap_infonce(energy, hidden.detach(), batch["actions"], batch["pad_mask"])[0])
        energy_opt.step()


fabric = L.Fabric(devices=2, strategy="ddp")
fabric.launch()
train(fabric)
# ==== after ====
import lightning as L
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def train(fabric: L.Fabric, lr: float = 1e-3) -> None:
    with torch.device("cpu"):
        policy, energy = Policy(), EnergyModel()
    policy, policy_opt = fabric.setup(policy, torch.optim.SGD(policy.parameters(), lr))
    energy_opt = torch.optim.SGD(energy.parameters(), lr, momentum=0.9)
    for i, batch in enumerate(fabric.setup_dataloaders(get_loader())):
        hidden, action = policy(batch["observation"])
        policy_opt.zero_grad()
        fabric.backward((action - batch["actions"]).square().mean())
        policy_opt.step()

        energy_opt.zero_grad()
        replicate(energy)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        fabric.backward(distributed_energy_inbatch_swap_infonce(energy, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0])
        energy_opt.step()


fabric = L.Fabric(devices=2, strategy="ddp")
fabric.launch()
train(fabric)
