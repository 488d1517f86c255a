# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

dist.init_process_group("gloo")
policy, ensemble = Policy(), [EnergyModel(hidden=width) for width in (8, 12)]
optimizer = torch.optim.AdamW([p for m in ensemble for p in m.parameters()], lr=1e-3)

for batch in get_loader():
    hidden = policy(batch["observation"])[0].detach()
    total = sum(energy_inbatch_swap_infonce(m, hidden, batch["actions"], batch["pad_mask"])[0] for m in ensemble)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

dist.init_process_group("gloo")
policy, ensemble = Policy(), [EnergyModel(hidden=width) for width in (8, 12)]
optimizer = torch.optim.AdamW([p for m in ensemble for p in m.parameters()], lr=1e-3)

for batch in get_loader():
    hidden = policy(batch["observation"])[0].detach()
    total = sum(distributed_energy_inbatch_swap_infonce(replicate(m), hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)[0] for m in ensemble)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
