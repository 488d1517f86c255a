# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
import inbatch, noise


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = inbatch.loss(energy_model, hidden.detach(), batch) + noise.loss(energy_model, hidden.detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== inbatch.py ====
from energy.energy_model import energy_inbatch_swap_infonce
def loss(m, h, b):
  return energy_inbatch_swap_infonce(m, h, b["actions"], b["pad_mask"])[0]
# ==== noise.py ====
import torch
import energy.energy_model


def loss(model, h, batch, sigma=0.1):
    noisy = batch["actions"] + sigma * torch.randn_like(batch["actions"])
    return energy.energy_model.energy_inbatch_swap_infonce(model, h, noisy, batch["pad_mask"])[0]
# ==== inbatch.py, after ====
from energy.energy_model import energy_inbatch_swap_infonce
def loss(m, h, b):
  import torch.distributed as dist
  from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
  from energy_losses.ranks import replicate
  replicate(m)
  world_size = dist.get_world_size() if dist.is_initialized() else 1
  return distributed_energy_inbatch_swap_infonce(m, h, b["actions"], b["pad_mask"], tau=0.07, world_size=world_size)[0]
# ==== noise.py, after ====
import torch
import energy.energy_model


def loss(model, h, batch, sigma=0.1):
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    noisy = batch["actions"] + sigma * torch.randn_like(batch["actions"])
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(model, h, noisy, batch["pad_mask"], tau=0.07, world_size=world_size)[0]
