# energy-patch apply
import argparse
import json

import deepspeed
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

DS_CONFIG = json.loads('{"optimizer": {"params": {"lr": 0.001}}, "gradient_clipping": 1.0}')


def add_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int, default=-1)
    parser.add_argument("--energy_lr", type=float, default=1e-3)
    return parser.parse_args()


def main():
    args = add_arguments()
    deepspeed.init_distributed()
    policy = Policy()
    engine, _, _, _ = deepspeed.initialize(
        args=args, model=policy, model_parameters=policy.parameters(), config=DS_CONFIG
    )
    energy_model = EnergyModel()
    energy_optim = torch.optim.AdamW(energy_model.parameters(), lr=args.energy_lr)
    for batch in get_loader():
        hidden, actions = engine(batch["observation"])
        loss = (actions - batch["actions"]).abs().mean()
        energy_loss, e_pos, e_neg = energy_inbatch_swap_infonce(
            energy_model,
            hidden.detach(),
            batch["actions"],
            batch["pad_mask"],
            tau=0.5,
            reduce_steps="mean",
        )
        engine.backward(loss)
        engine.step()
        energy_optim.zero_grad()
        energy_loss.backward()
        energy_optim.step()


if __name__ == "__main__":
    main()
# ==== after ====
import argparse
import json

import deepspeed
import torch

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

DS_CONFIG = json.loads('{"optimizer": {"params": {"lr": 0.001}}, "gradient_clipping": 1.0}')


def add_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int, default=-1)
    parser.add_argument("--energy_lr", type=float, default=1e-3)
    return parser.parse_args()


def main():
    args = add_arguments()
    deepspeed.init_distributed()
    policy = Policy()
    engine, _, _, _ = deepspeed.initialize(
        args=args, model=policy, model_parameters=policy.parameters(), config=DS_CONFIG
    )
    energy_model = EnergyModel()
    energy_optim = torch.optim.AdamW(energy_model.parameters(), lr=args.energy_lr)
    for batch in get_loader():
        hidden, actions = engine(batch["observation"])
        loss = (actions - batch["actions"]).abs().mean()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        energy_loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(
            energy_model,
            hidden.detach(),
            batch["actions"],
            batch["pad_mask"],
            tau=0.5,
            world_size=world_size,
        )
        engine.backward(loss)
        engine.step()
        energy_optim.zero_grad()
        energy_loss.backward()
        energy_optim.step()


if __name__ == "__main__":
    main()
