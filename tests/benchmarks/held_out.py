"""What a trained energy model of the bundled codebase is worth, in scenes that it has not seen.

    python tests/benchmarks/held_out.py CHECKPOINT [--scenes 960]

Run in the folder of the codebase; CHECKPOINT is a folder that the script has saved. Prints a JSON object:

    top1       how often a scene gives the expert's action the lowest energy of 24 experts' actions
    vs_policy  how often the expert's action has a lower energy than every guess of the policy, from its last layer and
               the earlier ones, in the same scene
    distance   squared distance to the expert of the policy's last guess after five steps down the energy's gradient,
               over that before; the step size is the best one on the other half of the scenes, and 0 may be the best
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STEPS = 5
STEP_SIZES = [0.0, *(10 ** (k / 4) for k in range(-8, 9))]  # 0.01 to 100
GROUP = 24


def load(folder: Path) -> tuple[Any, Any, Any]:
    """The codebase's own classes, from the folder that it is run in."""
    sys.path.insert(0, str(Path.cwd()))
    from data import ACTION_DIM
    from energy.energy_model import EnergyModel
    from policy import ChunkRegressionHead, TinyVLA

    policy = TinyVLA()
    head = ChunkRegressionHead(policy.llm_dim, 64, ACTION_DIM).to(torch.bfloat16)
    energy_model = EnergyModel(policy.llm_dim, ACTION_DIM)
    for part, module in (("vla", policy), ("action_head", head), ("energy_model", energy_model)):
        module.load_state_dict(torch.load(folder / f"{part}.pt"))
        module.eval()
    return policy, head, energy_model


@torch.no_grad()
def scenes(policy: Any, head: Any, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts, their mask, the experts' actions [N, H, Da], the policy's guesses, last layer last, [L, N, H, Da]."""
    from data import NUM_ACTIONS_CHUNK, Demonstrations, right_padding_collator
    from finetune_Energy import where_not_to_look
    from policy import is_action_token

    demonstrations = Demonstrations(count, 2)
    batch = right_padding_collator([demonstrations[i] for i in range(count)])
    layers = policy(batch["input_ids"], batch["attention_mask"], batch["pixel_values"]).hidden_states
    patches = policy.vision_backbone.get_num_patches()
    is_action = is_action_token(batch["labels"])[:, 1:]
    guesses = [
        head.predict_action(layer[:, patches:-1][is_action].reshape(count, NUM_ACTIONS_CHUNK, -1)) for layer in layers
    ]
    return layers[-1], where_not_to_look(is_action, patches), batch["actions"], torch.stack(guesses).float()


@torch.no_grad()
def top1(energy_model: Any, h: Tensor, mask: Tensor, actions: Tensor) -> float:
    hits = []
    for rows in torch.arange(len(h)).split(GROUP):
        energies = [energy_model(h[rows], a.expand(len(rows), -1, -1), mask[rows]) for a in actions[rows]]
        hits.append(torch.cat(energies, dim=1).argmin(dim=1) == torch.arange(len(rows)))
    return float(torch.cat(hits).double().mean())


@torch.no_grad()
def vs_policy(energy_model: Any, h: Tensor, mask: Tensor, actions: Tensor, guesses: Tensor) -> float:
    own = energy_model(h, actions, mask)
    of_guesses = torch.cat([energy_model(h, guess, mask) for guess in guesses], dim=1)
    return float((own < of_guesses.amin(dim=1, keepdim=True)).double().mean())


def descended(energy_model: Any, h: Tensor, mask: Tensor, actions: Tensor, size: float) -> Tensor:
    for _ in range(STEPS):
        actions = actions.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy_model(h, actions, mask).sum(), actions)
        actions = actions - size * gradient
    return actions.detach()


def distance_ratio(energy_model: Any, h: Tensor, mask: Tensor, actions: Tensor, guess: Tensor) -> float:
    def ratio(rows: slice, size: float) -> float:
        after = descended(energy_model, h[rows], mask[rows], guess[rows], size)
        return float((after - actions[rows]).square().sum() / (guess[rows] - actions[rows]).square().sum())

    first, second = slice(0, len(h) // 2), slice(len(h) // 2, len(h))
    best = min(STEP_SIZES, key=lambda size: ratio(first, size))
    return ratio(second, best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=960)
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy, head, energy_model = load(options.checkpoint)
    h, mask, actions, guesses = scenes(policy, head, options.scenes)
    figures = {
        "top1": top1(energy_model, h, mask, actions),
        "vs_policy": vs_policy(energy_model, h, mask, actions, guesses),
        "distance": distance_ratio(energy_model, h, mask, actions, guesses[-1]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
