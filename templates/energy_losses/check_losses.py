"""For ``energy_losses.check``: the losses that the patched scripts call, with the settings that these hold."""

import ast
import contextlib
import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .check_job import Job, Stop, one_line

_TAU = 0.07  # what `energy-patch apply` sets where it is not told another
_ORIGINAL_TAU = 0.5
FOLDER = Path(__file__).parent


class Batch(NamedTuple):
    """One rank's batch, or those of all ranks in one, where rows differ in their own S."""

    h: Tensor  # [B, S, D]
    a: Tensor  # [B, H, Da]
    mask: Tensor  # [B, S], True = padding
    layers: list[Tensor]  # each [B, H, Da]
    widths: list[int]  # S of each row on its rank


def batch_of(job: Job, rank: int, turn: int) -> Batch:
    """Any rank's batch, which every rank can make; its sequences are one step shorter than those of the rank before."""
    o, generator = job.options, torch.Generator().manual_seed(1000 * turn + rank + 1)
    longest = max(1, o.sequence - rank)
    lengths = longest - torch.randint(0, longest // 8 + 1, (o.batch_size,), generator=generator)
    lengths[0] = longest
    h = torch.randn(o.batch_size, longest, o.state_dim, generator=generator).bfloat16()
    actions = 2 * torch.rand(5, o.batch_size, o.chunk, o.action_dim, generator=generator) - 1
    mask = torch.arange(longest) >= lengths[:, None]
    a, *layers = actions.to(job.device, job.dtype)
    return Batch(h.to(job.device, job.dtype), a, mask.to(job.device), layers, [longest] * len(a))


class Loss(NamedTuple):
    """A loss as a script calls it, and the arguments that are no tensors, by name."""

    function: Callable[..., Any]
    given: dict[str, Any]
    replicated: bool  # False where the script was patched with --no-sync

    @property
    def spans_ranks(self) -> bool:
        """Whether a row meets the rows of all ranks: what takes ``world_size`` does, by this package's convention."""
        return "world_size" in self.given

    def __str__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{name}={value}' for name, value in self.given.items())})"

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        parameters = list(inspect.signature(self.function).parameters)[3:]
        tensors: dict[str, Any] = {name: batch.layers for name in parameters if "layer" in name}
        tensors.update({name: batch.mask for name in parameters if "mask" in name})
        loss: Tensor = self.function(model, batch.h, batch.a, **tensors, **self.given)[0]
        return loss


def losses(job: Job) -> list[Loss]:
    """What the record says that the scripts call now: losses of this folder, or the original one as before."""
    path = FOLDER / "patch.json"
    try:
        scripts = json.loads(path.read_text("utf-8"))["scripts"]
        found = [(name, entry, entry["loss"]) for name, entry in scripts.items()]
    except (OSError, ValueError, KeyError, TypeError):
        raise Stop(f"{path} is missing or no record of this version: run energy-patch apply once more") from None
    different: dict[str, Loss] = {}
    for name, entry, where in found:
        if where or not entry.get("reaches"):  # else the call stands in a module that is reached, an entry of its own
            loss = _recorded_loss(job, FOLDER.parent / name, entry["options"], where)
            different[f"{loss} {loss.replicated}"] = loss
    return list(different.values())


def sibling(name: str) -> Any:
    """A module that is there for the losses that need it; an import statement would have it copied for all."""
    return importlib.import_module(f".{name}", __package__)


def _recorded_loss(job: Job, script: Path, options: dict[str, Any], where: str) -> Loss:
    replicated = "no_sync" not in options
    if not where:
        return Loss(original_loss, {"tau": job.options.tau or _ORIGINAL_TAU}, replicated)
    module, _, name = where.partition(".")
    function = getattr(sibling(module), name)
    values = {**options, **_values_in(script, function)}
    given: dict[str, Any] = {}
    for parameter in _settings(function):
        if parameter.name == "world_size":
            given["world_size"] = job.world
        elif parameter.name.endswith("batch_size"):
            given[parameter.name] = job.options.batch_size
        elif parameter.name == "tau":
            given["tau"] = job.options.tau or values.get("tau", _TAU)
        elif parameter.name in values:
            given[parameter.name] = values[parameter.name]
        elif parameter.default is parameter.empty:
            raise Stop(f"{name} takes {parameter.name}, and {script.name} has no number for it that can be read")
    return Loss(function, given, replicated)


def _settings(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A loss's parameters behind the model, the contexts and the actions that are no tensors either."""
    behind = list(inspect.signature(function).parameters.values())[3:]
    return [each for each in behind if "mask" not in each.name and "layer" not in each.name]


# What a script hands over, read without running it


def _values_in(script: Path, function: Callable[..., Any]) -> dict[str, Any]:
    """What a script's call of a loss passes, as far as it can be read: the values that a user has tuned since."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError) as error:
        raise Stop(f"{script}, which patch.json records, cannot be read ({one_line(error)})") from None
    text = ast.unparse(tree)  # without comments, which may hold old calls
    imported = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = {alias.asname or alias.name for alias in imported if alias.name == function.__name__}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
            named = {str(keyword.arg): keyword.value for keyword in call.keywords}
            with contextlib.suppress(TypeError):  # *arguments, which only a running script knows
                bound = inspect.signature(function).bind_partial(*call.args, **named).arguments
                values = {parameter: _value(ast.unparse(argument), text) for parameter, argument in bound.items()}
                return {parameter: value for parameter, value in values.items() if value is not None}
    return {}


def _value(argument: str, script: str) -> Any:
    """A number, or the first that the script gives to a name: a field's, a variable's, a key's, a parameter's."""
    name = argument.rpartition(".")[2]
    if name.isidentifier():
        given = re.search(rf"\b{name}\b'?(?:\s*:[\w.\[\]| ]+)?\s*[=:]\s*([-+\d][-+.\w]*)", script)
        argument = given[1] if given else ""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(argument)
    return None


# Losses as the model itself computes them


def energies_of(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
    """Energies [P] of P pairs, as the model itself computes them."""
    output = model(h, a, mask)
    energies = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(energies, Tensor) or energies.numel() != len(h) or not energies.is_floating_point():
        seen = [*energies.shape] if isinstance(energies, Tensor) else type(energies).__name__
        raise Stop(f"{type(model).__name__} returns {seen}, and not an energy for each pair, [{len(h)}, 1]")
    return energies.reshape(-1).to(torch.promote_types(energies.dtype, torch.float32))


def original_loss(model: nn.Module, h: Tensor, a_pos: Tensor, pad_mask: Tensor, tau: float) -> tuple[Tensor]:
    """The script's loss before the patch: all pairs of the rank's own batch."""
    rows = torch.arange(len(h), device=h.device)
    first, second = rows.repeat_interleave(len(h)), rows.repeat(len(h))
    energies = energies_of(model, h[first], a_pos[second], pad_mask[first]).view(len(h), len(h))
    return (F.cross_entropy(-energies / tau, rows),)
