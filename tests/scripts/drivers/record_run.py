"""Runs a training script as `__main__` and keeps what its energy model went through, without a change to the script.

    record_run.py FOLDER SCRIPT [ARGUMENT ...]

Each rank writes FOLDER/rank<N>.pt: its seed, the shapes of the contexts that its energy model saw, the first
gradient just before it is clipped, the weights at that moment, and the weights after every optimizer step.
"""

import os
import runpy
import sys
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

folder, script, *arguments = sys.argv[1:]
record = {"contexts": [], "weights": []}
energy_parameters = []


def flat(tensors):
    return torch.cat([tensor.detach().flatten().clone() for tensor in tensors])


def keep_context(module, args):
    if type(module).__name__ == "EnergyModel":
        record["contexts"].append(tuple(args[0].shape))


def keep_weights(optimizer, args, kwargs):
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if held & {id(parameter) for parameter in energy_parameters}:
        record["weights"].append(flat(energy_parameters))


clip_grad_norm = torch.nn.utils.clip_grad_norm_


def keep_gradient(parameters, *args, **kwargs):
    if not energy_parameters:
        energy_parameters.extend(parameters)
        record["seed"] = torch.initial_seed()
        record["first_weights"] = flat(energy_parameters)
        record["first_gradient"] = flat(parameter.grad for parameter in energy_parameters)
    return clip_grad_norm(energy_parameters, *args, **kwargs)


torch.nn.utils.clip_grad_norm_ = keep_gradient
register_module_forward_pre_hook(keep_context)
register_optimizer_step_post_hook(keep_weights)

sys.argv = [script, *arguments]
sys.path[0] = str(Path(script).resolve().parent)
runpy.run_path(script, run_name="__main__")
torch.save(record, Path(folder) / f"rank{os.environ.get('RANK', '0')}.pt")
