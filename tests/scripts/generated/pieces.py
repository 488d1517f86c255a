"""Every way to write each piece of a training script."""

from __future__ import annotations

LOSS = "energy_inbatch_swap_infonce"

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
