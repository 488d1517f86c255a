# energy-patch apply
import torch, yaml
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

with open("config.yaml") as f: cfg = yaml.safe_load(f)

dist.init_process_group(backend="gloo")
rank = dist.get_rank()
torch.manual_seed(1234 + rank)

policy, energy_model = Policy(), EnergyModel()
opt = torch.optim.Adam(energy_model.parameters(), lr=float(cfg["lr"]))

for it, batch in enumerate(get_loader(cfg["batch_size"])):
    with torch.inference_mode(): hidden = policy(batch["observation"])[0]
    hidden = hidden.clone()
    loss, ep, en = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
    loss.backward()
    if (it + 1) % cfg["accum"] == 0: opt.step(); opt.zero_grad()
# ==== after ====
import torch, yaml
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

with open("config.yaml") as f: cfg = yaml.safe_load(f)

dist.init_process_group(backend="gloo")
rank = dist.get_rank()
torch.manual_seed(1234 + rank)

policy, energy_model = Policy(), EnergyModel()
opt = torch.optim.Adam(energy_model.parameters(), lr=float(cfg["lr"]))

for it, batch in enumerate(get_loader(cfg["batch_size"])):
    with torch.inference_mode(): hidden = policy(batch["observation"])[0]
    hidden = hidden.clone()
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, ep, en = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
    loss.backward()
    if (it + 1) % cfg["accum"] == 0: opt.step(); opt.zero_grad()
