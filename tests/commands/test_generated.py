"""Scripts put together at random from every way to write each piece, patched, run with stand-ins, and taken back.

What must hold for each: no traceback; a refusal writes nothing; the patch compiles, is a no-op the second time and is
taken back to the byte; and the patched script, *run*, hands the new loss what the original received, and hands every
model to `replicate` before the loss.

`ENERGY_PATCH_EXAMPLES=5000` runs more of them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.conftest import run_command, snapshot

EXAMPLES = int(os.environ.get("ENERGY_PATCH_EXAMPLES", "300"))
WORLD_SIZE = 4
LOSS = "energy_inbatch_swap_infonce"


# --- stand-ins --------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """What a script did, in order."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    models: int = 0

    def note(self, *entry: Any) -> None:
        self.events.append(entry)


class Model:
    """An energy model that only knows its number."""

    training = True

    def __init__(self, log: Log, *_: Any, **__: Any) -> None:
        self.number = log.models
        log.models += 1
        log.note("build", self.number)

    def parameters(self) -> list[Any]:
        return [types.SimpleNamespace(requires_grad=True, grad=types.SimpleNamespace(clamp_=lambda *_: None))]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: self


@dataclass
class Loss:
    log: Log

    def backward(self) -> None:
        self.log.note("backward")

    def __mul__(self, _: object) -> Loss:
        return self

    __rmul__ = __add__ = __radd__ = __truediv__ = __mul__


class Optimiser:
    def __init__(self, log: Log, *_: Any, **__: Any) -> None:
        self.log = log
        log.note("optimizer")

    def step(self) -> None:
        self.log.note("step")

    def zero_grad(self) -> None:
        pass


class Scaler:
    def __init__(self, log: Log) -> None:
        self.log = log

    def scale(self, loss: Loss) -> Loss:
        return loss

    def unscale_(self, _: Optimiser) -> None:
        self.log.note("unscale")

    def step(self, optimizer: Optimiser) -> None:
        optimizer.step()

    def update(self) -> None:
        pass


def stand_ins(log: Log) -> dict[str, types.ModuleType]:
    """Modules under the names that scripts import them by."""

    def original(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):  # type: ignore[no-untyped-def]
        log.note("loss", energy_model.number, h, a_pos, pad_mask, tau)
        return Loss(log), 1.0, 2.0

    def replacement(  # type: ignore[no-untyped-def]
        energy_model, h, a_pos, pad_mask=None, tau=0.5, world_size=None, *, group=None, min_distance=0.0
    ):
        assert world_size == WORLD_SIZE
        log.note("loss", energy_model.number, h, a_pos, pad_mask, tau)
        return Loss(log), 1.0, 2.0

    def replicate(energy_model: Model) -> Model:
        log.note("replicate", energy_model.number)
        return energy_model

    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__path__ = []
        vars(made).update(members)
        return made

    distributed = module(
        "torch.distributed", is_initialized=lambda: True, get_world_size=lambda: WORLD_SIZE, get_rank=lambda: 1
    )
    utils = module("torch.nn.utils", clip_grad_norm_=lambda *_: log.note("clip"))
    optim = module("torch.optim", AdamW=lambda *args, **kw: Optimiser(log, *args, **kw))
    nn = module("torch.nn", utils=utils)
    torch = module("torch", distributed=distributed, nn=nn, optim=optim, GradScaler=lambda: Scaler(log))
    energy_model = module(
        "energy.energy_model", EnergyModel=lambda *args, **kw: Model(log, *args, **kw), **{LOSS: original}
    )
    losses = module("energy_losses.global_infonce", **{f"distributed_{LOSS}": replacement})
    ranks = module(
        "energy_losses.ranks",
        replicate=replicate,
    )
    named = {
        "torch": torch,
        "torch.distributed": distributed,
        "torch.nn": nn,
        "torch.nn.utils": utils,
        "torch.optim": optim,
        "energy": module("energy", energy_model=energy_model),
        "energy.energy_model": energy_model,
        "energy_losses": module("energy_losses", global_infonce=losses, ranks=ranks),
        "energy_losses.global_infonce": losses,
        "energy_losses.ranks": ranks,
        "pack": module("pack"),
        "pack.energy_model": energy_model,
    }
    for name in ("energy_losses", "energy_losses.global_infonce", "energy_losses.ranks"):
        named[f"pack.{name}"] = named[name]
    return named


@contextmanager
def imported(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Put modules where `import` finds them, and put back what was there."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def run(raw: bytes) -> list[tuple[Any, ...]]:
    """Run a script with stand-ins; what it did."""
    log = Log()
    with imported(stand_ins(log)):
        exec(compile(raw, "train.py", "exec", dont_inherit=True), {"__name__": "__main__", "__package__": "pack"})
    return log.events


# --- pieces -----------------------------------------------------------------------------------------------------------

IMPORTS = {
    # how the loss is imported: (lines at the top, line in the function, how it is called)
    "plain": (f"from energy.energy_model import EnergyModel, {LOSS}", "", LOSS),
    "alias": (f"from energy.energy_model import EnergyModel, {LOSS} as swap_loss", "", "swap_loss"),
    "parenthesised": (f"from energy.energy_model import (  # 能量\n    EnergyModel,\n    {LOSS},\n)", "", LOSS),
    "continued": (f"from energy.energy_model import EnergyModel, \\\n    {LOSS}", "", LOSS),
    "module": ("import energy.energy_model as em\nEnergyModel = em.EnergyModel", "", f"em.{LOSS}"),
    "dotted": (
        "import energy.energy_model\nfrom energy.energy_model import EnergyModel",
        "",
        f"energy.energy_model.{LOSS}",
    ),
    "from package": ("from energy import energy_model as em\nEnergyModel = em.EnergyModel", "", f"em.{LOSS}"),
    "relative": (f"from .energy_model import EnergyModel, {LOSS}", "", LOSS),
    "local": ("from energy.energy_model import EnergyModel", f"from energy.energy_model import {LOSS}", LOSS),
    "tried": (
        f"try:\n    from energy.energy_model import {LOSS}\nexcept ImportError :\n    from other import {LOSS}\n"
        "from energy.energy_model import EnergyModel",
        "",
        LOSS,
    ),
    "semicolon": (f"import os; from energy.energy_model import EnergyModel, {LOSS}", "", LOSS),
    "two lines": (f"from energy.energy_model import {LOSS}\nfrom energy.energy_model import EnergyModel", "", LOSS),
}
DISTRIBUTED = [
    "",
    "import torch.distributed as dist",
    "import torch.distributed",
    "from torch import distributed",
    "from torch import distributed as tdist",
    "import torch.distributed as dist\nimport torch.distributed",
    "dist = 'something else'",
]
CONFIGS = {
    "none": "",
    "plain": "@dataclass\nclass Config:\n    lr: float = 1e-3\n    every: int = 2\n",
    "aligned": "@dataclass\nclass Config:\n    # fmt: off\n    lr: float = 1e-3          # 学习率\n"
    "    every: int = 2            # Steps\n    # fmt: on\n",
    "frozen": "@dataclasses.dataclass(frozen=True)\nclass Config:\n    every: int = 2\n"
    "    lr: float = dataclasses.field(\n        default=1e-3,\n    )\n\n"
    "    def described(self):\n        return self.lr\n",
    "described": '@dataclass\nclass Config:\n    """The config."""\n\n    every: int = 2\n    """How often."""\n'
    '    lr: float = 1e-3\n    """How fast."""\n',
    "derived": "@dataclass\nclass Base:\n    lr: float = 1e-3\n\n\n"
    "@dataclass\nclass Config(Base):\n    every: int = 2\n",
    "keywords": "@dataclass(kw_only=True)\nclass Config:\n    lr: float = 1e-3; every: int = 2\n",
    "own field": "@dataclass\nclass Config:\n    energy_tau: float = 0.21\n    every: int = 2\n    lr: float = 1e-3\n",
    "inherited field": "@dataclass\nclass Base:\n    energy_tau: float = 0.21\n    lr: float = 1e-3\n\n\n"
    "@dataclass\nclass Config(Base):\n    every: int = 2\n",
    "two": "@dataclass\nclass ModelConfig:\n    width: int = 2\n    depth: int = 2\n    heads: int = 2\n\n\n"
    "@dataclass\nclass Config:\n    lr: float = 1e-3\n    every: int = 2\n\n\ndef size(config: ModelConfig):\n"
    "    return config.width\n",
    "subclassed": "@dataclass\nclass Config:\n    lr: float = 1e-3\n    every: int = 2\n\n\n"
    "@dataclass\nclass Other(Config):\n"
    "    name: str = 'x'\n\n\nassert Other(1.0, 2, 'y').name == 'y'\n",
}
UNUSABLE = ("none", "subclassed")
OWN = ("own field", "inherited field")
ARGUMENTS = {
    # what stands between the parentheses: (text, whether it has a temperature of its own)
    "positional": ("model, h, a, mask", False),
    "no mask": ("model, h, a", False),
    "None": ("model, h, a, None", False),
    "keywords": ("energy_model=model, h=h, a_pos=a, pad_mask=mask", False),
    "shuffled": ("pad_mask=mask, a_pos=a, energy_model=model, h=h,", False),
    "mixed": ("model, h, pad_mask = mask, a_pos = a", False),
    "tau": ("model, h, a, mask, 0.7", True),
    "tau keyword": ("model, h, a, mask, tau=0.7", True),
    "reduce_steps": ("model, h, a, mask, reduce_steps='mean'", False),
    "all six": ("model, h, a, mask, 0.7, 'mean'", True),
    "reduce_steps first": ("reduce_steps='mean', tau=0.7, energy_model=model, h=h, a_pos=a", True),
    "lines": ("\n    model,\n    h,\n    a,\n    mask,\n", False),
    "lines, bare": ("\n    model,\n    h,  # 上下文\n    a,\n    mask  # padding\n", False),
    "lines, comment": (
        "\n    model,\n    h, a,\n    # pad_mask=None,\n    mask,  # reduce_steps='mean'\n    # the end\n",
        False,
    ),
    "lines, reduce_steps": (
        "\n    model,\n    h,\n    a,\n    reduce_steps='mean',  # unused\n    pad_mask=mask,\n",
        False,
    ),
    "hanging": ("model, h,\n    a, mask", False),
    "expressions": ("(model), (lambda x: x)(h), a if model else None, mask or (None)", False),
    "walrus": ("model, (seen := h), a, mask", False),
    "trailing comma": ("model, h, a, mask, ", False),
}
RESULTS = [
    # statements that leave the loss in `loss`; CALL stands for the call
    "loss, positive, negative = CALL",
    "loss, *rest = CALL",
    "out = CALL\nloss = out[0]",
    "loss = CALL[0]",
    "loss = (CALL)[0]",
    "loss = 0.5 * CALL[0] / 2",
    "loss = None\nloss = CALL[0]",
    "if (out := CALL)[1]:\n    loss = out[0]",
    "loss = CALL[0] if model else None",
    "loss = None if not model else CALL[0]",
    "if model: loss = CALL[0]",
    "if not model:\n    pass\nelif (out := CALL):\n    loss = out[0]",
    "if not model: pass\nelse: loss = CALL[0]",
    "seen = 1; loss = CALL[0]",
    "loss = CALL[0]; seen = 1",
    "loss = (lambda: CALL)()[0]",
    "loss = [CALL for _ in range(1)][0][0]",
    "loss = {k: CALL for k in 'x'}['x'][0]",
    "loss = next(CALL[0] for _ in range(1))",
    "while (out := CALL):\n    loss = out[0]\n    break",
    "for loss in [CALL[0]]:\n    pass",
    "with contextlib.nullcontext(CALL) as out:\n    loss = out[0]",
    "with contextlib.nullcontext():\n    loss = CALL[0]",
    "try:\n    loss = CALL[0]\nfinally:\n    seen = 1",
    "try:\n    seen = 1\nexcept ValueError :\n    raise\nelse:\n    loss = CALL[0]",
    "match CALL:\n    case (loss, *_):\n        pass",
    "assert (out := CALL)\nloss = out[0]",
    'loss = f"{CALL[1]}" and CALL[0]',
    "loss: object = CALL[0]",
    "def inner(x):\n    return CALL\nloss = inner(1)[0]",
    "def inner(out=CALL):\n    return out\nloss = inner()[0]",
    "class Inner:\n    out = CALL\nloss = Inner.out[0]",
    "loss = CALL[0]\nloss = loss + CALL[0]",
    "if mask:\n    loss = CALL[0]\nelse:\n    loss = CALL[0]",
    "\\\nloss = CALL[0]",
]
NOISE = ["", "world_size = 99", "dist = h", "energy_tau = 'mine'", "torch = 1", "replicate = 1", "import math"]
SIGNATURES = [
    # PARAMETERS stands for `model, h, a, mask` and a config, if it takes one
    "(PARAMETERS)",
    "(PARAMETERS,)",
    "( PARAMETERS )",
    "(\n    PARAMETERS\n)",
    "(\n    PARAMETERS,\n)",
    "(\n    PARAMETERS,  # 参数\n)",
    "(\n    PARAMETERS  # 参数\n)",
    "(PARAMETERS, *, scale=1.0)",
    "(PARAMETERS, flag: bool = False)",
    "(PARAMETERS, *rest)",
    "(PARAMETERS, **options)",
    "(\n    PARAMETERS,\n    flag=False,\n    **options,\n)",
    "(PARAMETERS, *rest, scale = 1.0, **options)",
    "(PARAMETERS, /)",
    "(PARAMETERS, /, flag=False)",
    "(PARAMETERS) -> object",
]
DECORATORS = {"": True, "@passed_on\n": True, "@fixed\n": False, "@torch_no_op\n@passed_on\n": False}
HELPERS = """
def passed_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper


def fixed(function):
    def wrapper(model, h, a, mask, *args):
        return function(model, h, a, mask, *args)
    return wrapper


torch_no_op = functools.partial(lambda function: function)


def batches(count):
    for number in range(count):
        yield ("h", number), ("a", number), ("mask", number)


def clip(model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def update(model, optimizer):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
"""
BUILDS = [
    "energy_model = EnergyModel()",
    "energy_model = EnergyModel(7, 64).to(0)",
    "energy_model: object = EnergyModel()\nenergy_model = energy_model.to(0)",
    "energy_model = EnergyModel()\nenergy_model.to(0)\nenergy_model.load_state_dict({})",
    "energy_model = None\nif 1:\n    energy_model = EnergyModel()",
    "energy_model = None\nif 1: energy_model = EnergyModel()",
    "energy_model = EnergyModel() if 1 else None",
    "if 1:\n    energy_model = EnergyModel()\nelse:\n    energy_model = EnergyModel(1)",
    "with contextlib.nullcontext():\n    energy_model = EnergyModel()",
    "energy_model = EnergyModel(); energy_model = energy_model.to(0)",
    "first = EnergyModel()\nenergy_model = first",
]
OPTIMIZERS = [
    "optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)",
    "optimizer = torch.optim.AdamW([{'params': energy_model.parameters()}])",
    "params = [p for p in energy_model.parameters() if p.requires_grad]\noptimizer = torch.optim.AdamW(params)",
    "params = []\nparams.extend(energy_model.parameters())\noptimizer = torch.optim.AdamW(params)",
    "params = []\nparams += list(energy_model.parameters())\nenergy_optimizer = torch.optim.AdamW(params)\n"
    "optimizer = energy_optimizer",
]
STEPS = [
    # what follows the backward pass; EVERY stands for the config's field or a number
    "optimizer.step()",
    "clip_grad_norm_(energy_model.parameters(), 1.0)\noptimizer.step()",
    "if EVERY:\n    clip_grad_norm_(energy_model.parameters(), 1.0)\noptimizer.step()\noptimizer.zero_grad()",
    "if (step + 1) % EVERY == 0:\n    optimizer.step()",
    "if (step + 1) % EVERY == 0: optimizer.step()",
    "if step % EVERY:\n    pass\nelif True: optimizer.step()",
    "if step % EVERY: pass\nelse: optimizer.step()",
    "clip_grad_norm_(energy_model.parameters(), 1.0)\nif (step + 1) % EVERY == 0:\n    optimizer.step()\n"
    "    optimizer.zero_grad()",
    "if (step + 1) % EVERY == 0 or step == 3:\n    clip(energy_model)\n    optimizer.step()",
    "scaler.unscale_(optimizer)\nclip_grad_norm_(energy_model.parameters(), 1.0)\nscaler.step(optimizer)\n"
    "scaler.update()",
    "scaler.step(optimizer)\nscaler.update()",
    "for p in energy_model.parameters():\n    p.grad.clamp_(-1, 1)\noptimizer.step()",
    "update(energy_model, optimizer)",
    "clip(energy_model); optimizer.step()",
    "try:\n    optimizer.step()\nfinally:\n    optimizer.zero_grad()",
    "with contextlib.nullcontext():\n    optimizer.step()",
    "if step == 3:\n    break\noptimizer.step()",
    "optimizer.step(); optimizer.zero_grad()",
    "def take():\n    optimizer.step()\ntake()",
]
BACKWARDS = ["loss.backward()", "scaler.scale(loss).backward()", "(loss / 2).backward()"]


@dataclass(frozen=True)
class Script:
    """A generated script, and what its calls are expected to pass as a temperature (None: as before)."""

    text: str
    tau: float | None
    pieces: dict[str, str]


def indent(text: str, depth: int = 1) -> str:
    return "\n".join("    " * depth + line if line else line for line in text.split("\n"))


def one(draw: st.DrawFn, values: Any) -> Any:
    return draw(st.sampled_from([*values]))


def drawn_call(draw: st.DrawFn, callee: str, pieces: dict[str, str]) -> tuple[str, bool]:
    pieces["arguments"] = one(draw, ARGUMENTS)
    arguments, has_tau = ARGUMENTS[pieces["arguments"]]
    pieces["result"] = one(draw, RESULTS)
    gap = one(draw, ["", "", "", " "])
    lines = []
    for line in pieces["result"].split("\n"):
        column = line[: len(line) - len(line.lstrip())]
        written = arguments
        if 'f"' in line:
            written = ", ".join(part.strip() for part in re.sub(r"#[^\n]*", "", written).split("\n")).replace(",,", ",")
            written = re.sub(r"(?:, )+", ", ", written.replace("'", "").replace("mean", "None")).strip(", ")
        lines.append(line.replace("CALL", f"{callee}{gap}({written})".replace("\n", f"\n{column}")))
    return "\n".join(lines), has_tau


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    pieces: dict[str, str] = {}
    pieces["import"] = one(draw, IMPORTS)
    top, inside, callee = IMPORTS[pieces["import"]]
    pieces["config"] = one(draw, CONFIGS)
    pieces["distributed"] = one(draw, DISTRIBUTED)
    pieces["shape"] = one(draw, ["function", "function", "method", "method with config", "static method", "module"])
    call, has_tau = drawn_call(draw, callee, pieces)
    head = one(draw, ["", '"""Trains."""\n', "from __future__ import annotations\n", "# 训练\n\n"])
    usual = (
        "import contextlib\nimport dataclasses\nimport functools\nimport torch\nimport torch.nn\nimport torch.optim\n"
    )
    usual += "from dataclasses import dataclass\nfrom torch.nn.utils import clip_grad_norm_\n"
    others = [usual, top + "\n", pieces["distributed"] + "\n"]
    imports = "".join(draw(st.permutations(others)))
    if draw(st.booleans()):
        imports += "import collections\n"
    text = head + imports + "\n\n" + CONFIGS[pieces["config"]] + "\n" + HELPERS + "\n\n"

    has_config = pieces["config"] != "none"
    noise = one(draw, NOISE)
    pieces["noise"] = noise
    train, takes = _training(draw, pieces, has_config)
    if pieces["shape"] == "module":
        text += _at_module_level(draw, pieces, call, inside, has_config)
        is_used = in_reach = has_config
    else:
        text += _functions(draw, pieces, call, inside, noise, train, takes)
        is_used = has_config and (pieces["main"] != "without" or pieces["takes config"] == "yes")
        in_reach = is_used and (pieces["transparent"] == "yes" or pieces["takes config"] == "yes")
        if pieces["result"].startswith("def inner(x)") and pieces["takes config"] == "no":
            in_reach = False  # a value is handed through one function, not through two
    if pieces["config"] in UNUSABLE:
        in_reach = False
    tau = 0.7 if has_tau else 0.21 if is_used and pieces["config"] in OWN else 0.123 if in_reach else 0.07
    return Script(text, tau, pieces)


def _training(draw: st.DrawFn, pieces: dict[str, str], has_config: bool) -> tuple[str, str]:
    """A loop with the model, the optimizer and the step; RUN stands for the call of what computes the loss."""
    pieces["build"], pieces["optimizer"] = one(draw, BUILDS), one(draw, OPTIMIZERS)
    pieces["step"], backward = one(draw, STEPS), one(draw, BACKWARDS)
    pieces["main"] = one(draw, ["config", "config", "without", "made inside"]) if has_config else "without"
    every = "cfg.every" if pieces["main"] != "without" else "2"
    loop = f"loss = RUN\n{backward}\n{pieces['step'].replace('EVERY', every)}"
    body = f"{pieces['build']}\n{pieces['optimizer']}\nscaler = torch.GradScaler()\n"
    body += f"for step, (h, a, mask) in enumerate(batches(4)):\n{indent(loop)}"
    if pieces["main"] == "made inside":
        body = f"cfg = Config()\n{body}"
    return body, "cfg: Config" if pieces["main"] == "config" else ""


def _at_module_level(draw: st.DrawFn, pieces: dict[str, str], call: str, inside: str, has_config: bool) -> str:
    made = "cfg = Config()\n" if has_config else ""
    imported_here = f"{inside}\n" if inside else ""
    every = "cfg.every" if has_config else "2"
    loop = f"model = energy_model\n{call}\n{one(draw, BACKWARDS)}\n{pieces['step'].replace('EVERY', every)}"
    body = f"{made}{imported_here}{pieces['build']}\n{pieces['optimizer']}\nscaler = torch.GradScaler()\n"
    return body + f"for step, (h, a, mask) in enumerate(batches(4)):\n{indent(loop)}\n"


def _functions(
    draw: st.DrawFn, pieces: dict[str, str], call: str, inside: str, noise: str, train: str, takes: str
) -> str:
    shape = pieces["shape"]
    has_config = pieces["config"] != "none"
    pieces["takes config"] = "no"
    names = ["model", "h", "a", "mask"]
    passed = ["energy_model", "h", "a", "mask"]
    annotated = draw(st.booleans())
    if shape == "function" and has_config and pieces["main"] != "without" and draw(st.booleans()):
        names.append("cfg: Config")
        passed.append("cfg")
        pieces["takes config"] = "yes"
    if annotated:
        names = [name if ":" in name else f"{name}: object" for name in names]
    decorator = one(draw, DECORATORS) if shape == "function" else "@staticmethod\n" if shape == "static method" else ""
    pieces["decorator"] = decorator
    pieces["transparent"] = "yes" if DECORATORS.get(decorator, True) else "no"
    signature = one(draw, SIGNATURES)
    pieces["signature"] = signature
    receiver = ["self"] if shape in ("method", "method with config") else []
    separator = ",\n    " if signature.startswith("(\n") and draw(st.booleans()) else ", "
    signature = signature.replace("PARAMETERS", separator.join([*receiver, *names]))
    lines = [line for line in (inside, noise, call) if line]
    body = "\n".join(lines) + "\nreturn loss"
    arguments = one(draw, [", ".join(passed), ", ".join(passed) + ",", "\n    " + ",\n    ".join(passed) + ",\n", ""])
    if arguments == "" and "/" not in pieces["signature"]:
        keywords = [f"{name.split(':')[0]}={value}" for name, value in zip(names, passed, strict=True)]
        arguments = ", ".join(keywords if decorator != "@fixed\n" else passed)
    arguments = arguments or ", ".join(passed)
    function = f"{decorator}def compute_loss{signature}:\n{indent(body)}\n"
    entry = "main(Config())" if takes else "main()"
    guard = one(
        draw, [f'if __name__ == "__main__":\n    {entry}\n', f"{entry}\n", f'if __name__ == "__main__": {entry}\n']
    )
    main = f"def main({takes}):\n" + indent(
        train.replace("RUN", f"compute_loss({arguments})").replace("\n)", "\n    )")
    )
    if shape == "function":
        order = [function, main + "\n"]
        return "\n\n".join(order if draw(st.booleans()) else reversed(order)) + "\n\n" + guard
    with_config = shape == "method with config" and has_config
    if with_config:
        pieces["takes config"] = "yes"
    constructor = "def __init__(self, cfg: Config):\n    self.cfg = cfg\n\n" if with_config else ""
    made = "trainer = Trainer(Config())\n" if with_config else "trainer = Trainer()\n"
    holder = f"class Trainer:\n{indent(constructor + function)}\n"
    main = f"def main({takes}):\n" + indent(
        made + train.replace("RUN", f"trainer.compute_loss({arguments})").replace("\n)", "\n    )")
    )
    return f"{holder}\n\n{main}\n\n\n{guard}"


BYTES: dict[str, Callable[[str], bytes]] = {
    "LF": lambda text: text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "mixed": lambda text: re.sub(r"\n([^\n]*)\n", "\r\n\\1\n", text).encode(),
    "tabs": lambda text: re.sub(r"(?m)^(?:    )+", lambda match: "\t" * (len(match[0]) // 4), text).encode(),
    "two spaces": lambda text: re.sub(r"(?m)^(?:    )+", lambda match: "  " * (len(match[0]) // 4), text).encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "gbk": lambda text: f"# coding: gbk\n{text}".encode("gbk"),
    "form feeds": lambda text: text.replace("\n\n\n", "\n\n\f\n").replace("\ndef ", "\n\fdef ").encode(),
    "trailing blanks": lambda text: re.sub(r"(?m)(?<=[\w:)])$", "  ", text).encode(),
    "no final newline": lambda text: text.rstrip("\n").encode(),
    "odd separators": lambda text: text.replace("\n\n\n", "\n\n# \u2028\x1c\x85\n").encode(),
}


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Script, bytes, str]:
    script = draw(scripts())
    kind = one(draw, ["LF", *BYTES])
    if kind in ("trailing blanks", "tabs", "two spaces") and "\\\n" in script.text:
        kind = "LF"  # a blank behind a backslash, or another indentation behind one, is another script
    return script, BYTES[kind](script.text), kind


# --- the test ---------------------------------------------------------------------------------------------------------


def check_events(script: Script, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> None:
    kept = [entry for entry in after if entry[0] != "replicate"]
    expected = [(*entry[:-1], script.tau) if entry[0] == "loss" else entry for entry in before]
    assert kept == expected
    replicated: set[int] = set()
    for name, *rest in after:
        if name == "replicate":
            replicated.add(rest[0])
        assert name != "loss" or rest[0] in replicated


def check(script: Script, raw: bytes, kind: str) -> str:
    """Everything that must hold for one script; what became of it."""
    before = run(raw)
    assert any(entry[0] == "loss" for entry in before)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_bytes(raw)
        ran = run_command("apply", "--json", path)
        answer = ran.json["scripts"][0]
        if answer["outcome"] == "refused":
            assert ran.exit_code == 1
            assert answer["message"]
            assert "report" not in answer["message"], answer
            assert snapshot(Path(folder)) == {"train.py": raw}
            return f"refused ({answer['reason']}): {re.sub(r'[0-9]+', 'N', answer['message'])[:90]}"
        assert (ran.exit_code, answer["outcome"]) == (0, "patched"), answer
        patched = path.read_bytes()
        compile(patched, "train.py", "exec")
        written = snapshot(Path(folder))
        assert run_command("apply", "--json", path).json["outcome"] == "already-applied"
        assert snapshot(Path(folder)) == written
        assert run_command("revert", path).exit_code == 0
        assert snapshot(Path(folder)) == {"train.py": raw}
    # The config field's value is tuned: what is in its reach must follow.
    tuned = patched.replace(b"energy_tau: float = 0.07", b"energy_tau: float = 0.123")
    if script.tau == 0.123 and tuned == patched:
        pytest.fail("the config has no field")
    check_events(script, before, run(tuned))
    return "patched"


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ENERGY_PATCH_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    print_blob=False,
    phases=[Phase.generate],  # a script that fails is readable as it is
)
@given(inputs())
def test_generated_scripts(drawn: tuple[Script, bytes, str]) -> None:
    script, raw, kind = drawn
    try:
        compile(raw, "train.py", "exec")
        run(raw)
    except (SyntaxError, NameError, TypeError) as error:
        raise AssertionError(f"the generator made a script that does not run: {error}\n{script.text}") from error
    try:
        outcome = check(script, raw, kind)
    except AssertionError as error:
        raise AssertionError(f"{script.pieces}\n{script.text}") from error
    event(outcome)
