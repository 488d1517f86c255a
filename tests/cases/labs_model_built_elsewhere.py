# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import energy_inbatch_swap_infonce
from models import build_energy_model
from policy import Policy


class Config:
    lr = 1e-3
    clip = 1.0


def main(cfg=Config):
    dist.init_process_group("gloo")
    policy = Policy()
    nets = {"energy": build_energy_model("cpu", hidden=16)}
    optims = {name: torch.optim.AdamW(net.parameters(), lr=cfg.lr) for name, net in nets.items()}
    for batch in get_loader():
        h = policy(batch["observation"])[0].detach()
        losses = {"energy": energy_inbatch_swap_infonce(nets["energy"], h, batch["actions"], batch["pad_mask"])[0]}
        for name, loss in losses.items():
            optims[name].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(nets[name].parameters(), cfg.clip)
            optims[name].step()


if __name__ == "__main__":
    main()
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from models import build_energy_model
from policy import Policy


class Config:
    lr = 1e-3
    clip = 1.0


def main(cfg=Config):
    dist.init_process_group("gloo")
    policy = Policy()
    nets = {"energy": build_energy_model("cpu", hidden=16)}
    optims = {name: torch.optim.AdamW(net.parameters(), lr=cfg.lr) for name, net in nets.items()}
    for batch in get_loader():
        h = policy(batch["observation"])[0].detach()
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        losses = {"energy": distributed_energy_inbatch_swap_infonce(replicate(nets["energy"]), h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]}
        for name, loss in losses.items():
            optims[name].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(nets[name].parameters(), cfg.clip)
            optims[name].step()


if __name__ == "__main__":
    main()
