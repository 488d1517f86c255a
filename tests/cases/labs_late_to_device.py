# energy-patch apply
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class Agent:
    def __init__(self, lr=1e-3):
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.energy_model.load_state_dict(self.energy_model.state_dict())
        self.optim = torch.optim.AdamW(self.energy_model.parameters(), lr=lr)
        self.device = None

    def to(self, device):
        self.device = torch.device(device)
        self.policy.to(device)
        self.energy_model.to(device)
        return self

    def update(self, batch):
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        context = self.policy(batch["observation"])[0].detach()
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(self.energy_model, context, batch["actions"], batch["pad_mask"])
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return {"loss": loss.item()}


agent = Agent()
dist.init_process_group("gloo")
agent.to("cuda" if torch.cuda.is_available() else "cpu")
for batch in get_loader():
    agent.update(batch)
# ==== after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class Agent:
    def __init__(self, lr=1e-3):
        self.policy = Policy()
        self.energy_model = EnergyModel()
        self.energy_model.load_state_dict(self.energy_model.state_dict())
        self.optim = torch.optim.AdamW(self.energy_model.parameters(), lr=lr)
        self.device = None

    def to(self, device):
        self.device = torch.device(device)
        self.policy.to(device)
        self.energy_model.to(device)
        return self

    def update(self, batch):
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        context = self.policy(batch["observation"])[0].detach()
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(self.energy_model, context, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return {"loss": loss.item()}


agent = Agent()
dist.init_process_group("gloo")
agent.to("cuda" if torch.cuda.is_available() else "cpu")
for batch in get_loader():
    agent.update(batch)
