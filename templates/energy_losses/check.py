"""Proof on your own machines that the ranks train as one process: run it before the first long run.

    torchrun --nproc-per-node 8 -m energy_losses.check energy.energy_model:EnergyModel

in the folder of the patched script. It makes random contexts and actions, checks the loss that ``patch.json`` records
with the settings that the script holds, prints a line per claim on rank 0, and exits with 1 if one FAILED. The
dimensions, the backend, the device and the dtype of the weights are options (``--help``).
"""

import argparse
import ast
import inspect
import pkgutil
import re
import sys
import time
from typing import Any

import torch
from torch import nn

from .check_claims import check_drift, check_energies, check_gradient, measure_cost
from .check_job import NAME, SIZES, Alarm, Job, Stop, join, one_line
from .check_losses import batch_of, energies_of, losses


def main() -> None:
    options = _options()
    try:
        job = join(options)
    except Stop as problem:
        print(f"{NAME}: {problem}", file=sys.stderr, flush=True)
        time.sleep(2)  # the others see the same, and the launcher ends them with the first that leaves
        sys.exit(1)
    alarm = Alarm(job)
    try:
        code = _check_all(job, alarm)
    except BaseException as error:  # SystemExit as well: a model's module may leave
        alarm.ring(error)
    alarm.leave(code)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", metavar="MODULE:CLASS", help="the energy model, made as CLASS(state_dim, action_dim)")
    numbers = {"batch-size": 3, "chunk": 8, "action-dim": 7, "accumulate": 1, "steps": 20}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=_count, default=default, metavar="N", help=f"default: {default}")
    for name, (usual, on_cpu) in SIZES.items():
        text = f"default: {usual}, on a CPU {on_cpu}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=text)
    parser.add_argument("--tau", type=float, help="temperature (default: the script's)")
    parser.add_argument("--backend", help="default: nccl where each rank has a GPU, else gloo")
    parser.add_argument("--device", help="default: cuda if there is a GPU, else cpu")
    dtypes = "float64", "float32", "bfloat16", "float16"
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="of the weights (default: float32)")
    help_ = "for CLASS: values in the place of state_dim and action_dim, and NAME=VALUE"
    parser.add_argument("--model-args", nargs="*", default=[], metavar="ARG", help=help_)
    return parser.parse_args()


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


_VERDICTS = {True: "ok", False: "FAILED", None: "-"}


def _check_all(job: Job, alarm: Alarm) -> int:
    failed = 0
    alarm.stage = "reading the script"
    for loss in losses(job):
        alarm.stage = "building the model"
        torch.manual_seed(job.rank)  # ranks start apart, as in a script that seeds nothing
        model = _build(job.options).to(job.device, job.dtype)
        _try_out(job, model)
        if job.rank == 0:
            each = f"{job.options.batch_size} contexts of {job.options.sequence} x {job.options.state_dim}"
            print(f"{NAME}: {job.world} ranks, each {each}, {job.backend}, {job.device.type}, {loss}")
            if not loss.replicated:
                print("   replicate is absent (--no-sync): what keeps the ranks one model must stand in the script")
        for number, claim in enumerate((check_gradient, check_drift, check_energies, measure_cost), start=1):
            alarm.stage = f"claim {number}"
            holds, line = claim(job, loss, model)
            failed += holds is False
            if job.rank == 0:
                print(f"{number}. {_VERDICTS[holds]:6}  {line}", flush=True)
    return 1 if failed else 0


def _build(options: argparse.Namespace) -> nn.Module:
    try:
        kind = pkgutil.resolve_name(options.model)
    except Exception as error:
        how = "name it MODULE:CLASS, as the script imports it, and start in the script's folder"
        raise Stop(f"cannot import {options.model} ({one_line(error)}); {how}") from None
    if not callable(kind) or isinstance(kind, nn.Module):
        raise Stop(f"{options.model} is no class but an instance of {type(kind).__name__}; name what makes the model")
    given = [re.match(r"(?:(\w+)=)?(.*)", text, re.DOTALL) for text in options.model_args]
    pairs = [(each[1], _value(each[2])) for each in given if each]
    values = [value for name, value in pairs if not name] or [options.state_dim, options.action_dim]
    named = {name: value for name, value in pairs if name}
    shown = ", ".join([*map(repr, values), *(f"{name}={value!r}" for name, value in named.items())])
    try:
        wanted = f"it takes {inspect.signature(kind)}; give its arguments with --model-args, as 4096 7 hidden=512"
        model = kind(*values, **named)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error)}"
        raise Stop(f"cannot make {options.model}({shown}) ({said}); {wanted}") from None
    if not isinstance(model, nn.Module):
        raise Stop(f"{options.model} makes no torch.nn.Module but {type(model).__name__}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise Stop(f"{options.model} makes a model without a parameter that is trained: nothing to check")
    return model


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


@torch.no_grad()
def _try_out(job: Job, model: nn.Module) -> None:
    batch = batch_of(job, job.rank, 0)
    try:
        energies_of(model.eval(), batch.h, batch.a, batch.mask)
    except TypeError as error:
        raise Stop(f"the model cannot be called as model(h, a, pad_mask): {one_line(error)}") from None


if __name__ == "__main__":
    main()
