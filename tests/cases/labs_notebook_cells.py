# energy-patch apply
# %% [markdown]
# # Energy model on top of a frozen policy

# %%
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

# %%
from data import get_loader
from policy import Policy

dist.init_process_group("gloo")
LR = 1e-3
losses = []

# %%
policy = Policy()
energy_model = EnergyModel()
optim = torch.optim.Adam(energy_model.parameters(), lr=LR)

# %%
for batch in get_loader():
    h, _ = policy(batch["observation"])
    loss, pos, neg = energy_inbatch_swap_infonce(energy_model, h.detach(), batch["actions"], batch["pad_mask"])
    optim.zero_grad(); loss.backward(); optim.step()
    losses.append(loss.item())

# %%
print(losses[-1])
# ==== after ====
# %% [markdown]
# # Energy model on top of a frozen policy

# %%
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

# %%
from data import get_loader
from policy import Policy

dist.init_process_group("gloo")
LR = 1e-3
losses = []

# %%
policy = Policy()
energy_model = EnergyModel()
optim = torch.optim.Adam(energy_model.parameters(), lr=LR)

# %%
for batch in get_loader():
    h, _ = policy(batch["observation"])
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, pos, neg = distributed_energy_inbatch_swap_infonce(energy_model, h.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
    optim.zero_grad(); loss.backward(); optim.step()
    losses.append(loss.item())

# %%
print(losses[-1])
