"""Which dataclass gains the new field, and which is left as it is: then the literal stands at the call."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Command

START = """\
from dataclasses import asdict, astuple, dataclass, fields
from energy.energy_model import energy_inbatch_swap_infonce

"""
STEP = """
def step(m, h, a, {name}: {type}):
    energy_inbatch_swap_infonce(m, h, a)
"""
SETTINGS = {
    "a name": "@dataclass\nclass TrialConfig:\n    weights: Tensor = None\n",
    "a name with a number": "@dataclass\nclass CfgV2:\n    weights: Tensor = None\n",
    "a base": "@dataclass\nclass Trial(BaseConfig):\n    weights: Tensor = None\n",
    "values": "class Mode(str, Enum):\n    A = 'a'\n@dataclass\nclass Inner:\n    lr: float = 1.0\n"
    "@dataclass\nclass Trial:\n    a: Optional[int]\n    b: 'float | None'\n    c: dict[str, tuple[int, ...]]\n"
    "    d: Literal['x', 'y']\n    e: torch.dtype\n    f: Mode\n    g: Inner\n    h: model.ModelConfig\n"
    "    i: Callable[[Tensor], Tensor]\n    j: Annotated[int, tyro.conf.Positional]\n    k: Path = Path()\n",
    "filled": "@dataclass\nclass Trial:\n    weights: Tensor = None\ntrial = tyro.cli(Trial)\n",
    "filled with others": "@dataclass\nclass Trial:\n    extra: Any = None\n"
    "m, t = HfArgumentParser((Model, Trial)).parse_args_into_dataclasses()\n",
    "filled by a decorator": "@dataclass\nclass Trial:\n    extra: Any = None\n"
    "@pyrallis.wrap()\ndef main(t: Trial): ...\n",
    "filled through a function": "@dataclass\nclass Trial:\n    extra: Any = None\n"
    "def main(t: Trial): ...\ntyro.cli(main)\n",
    "walked to be shown": "@dataclass\nclass Trial:\n    lr: float = 1.0\n    def shown(self):\n"
    "        lines = [f'{f.name}: {getattr(self, f.name)}' for f in fields(self)]\n        d = {}\n"
    "        for f in fields(self):\n            d[f.name] = getattr(self, f.name)\n        return lines, d\n",
    "walked by names": "@dataclass\nclass Trial:\n    lr: float = 1.0\n    name: str = ''\n    def shown(self):\n"
    "        for k in asdict(self):\n            print(k.upper())\n"
    "        return {k: log[self.name] for k, v in vars(self).items()}\n",
    "walked with a look at each": "@dataclass\nclass Trial:\n    lr: float = 1.0\n    @classmethod\n"
    "    def read(cls, d):\n        return cls(**{f.name: d[f.name] for f in fields(cls) if f.name in d})\n"
    "    def plain(self):\n"
    "        return {k: v.value if isinstance(v, Enum) else v for k, v in asdict(self).items()}\n",
    "set before the training": "@dataclass\nclass Trial:\n    lr: float = 1.0\n    def __post_init__(self):\n"
    "        self.lr = 2 * self.lr\ntrial = Trial()\ntrial.lr = 2.0\n",
}
OTHERS = {
    "tensors": "@dataclass\nclass Trial:\n    hidden: Tensor\n    mask: torch.Tensor\n",
    "tensors in a list": "@dataclass\nclass Trial:\n    hidden: list[Optional[torch.Tensor]]\n",
    "anything": "@dataclass\nclass Trial:\n    loss: object\n    pos: float\n",
    "modules": "@dataclass\nclass Trial:\n    policy: nn.Module\n    step: int = 0\n",
    "a class of this file": "class Part: ...\n@dataclass\nclass Trial:\n    part: Part\n",
    "a dataclass that holds tensors": "@dataclass\nclass Part:\n    x: Tensor\n"
    "@dataclass\nclass Trial:\n    part: Part\n",
    "added to": "@dataclass\nclass Trial:\n    pos: float = 0.0\ntrial = Trial()\ntrial.pos += 1\n",
    "added to in a method": "@dataclass\nclass Trial:\n    pos: float = 0.0\n    def add(self, x): self.pos += x\n",
    "set in a method": "@dataclass\nclass Trial:\n    pos: float = 0.0\n    def reset(self): self.pos = 0.0\n",
    "set in a loop": "@dataclass\nclass Trial:\n    pos: float = 0.0\ntrial = Trial()\n"
    "for x in xs:\n    trial.pos = x\n",
    "set to results": "@dataclass\nclass Trial:\n    pos: float = 0.0\n    neg: float = 0.0\ntrial = Trial()\n"
    "trial.pos, trial.neg = f()\n",
    "an attribute added to": "@dataclass\nclass Trial:\n    pos: float = 0.0\nclass T:\n    def __init__(self):\n"
    "        self.trial = Trial()\n    def log(self, x):\n        self.trial.pos += x\n",
    "own slots": "@dataclass\nclass TrialConfig:\n    __slots__ = ('lr',)\n    lr: float\n",
    "unpacked": "@dataclass\nclass TrialConfig:\n    lr: float = 1.0\n(lr,) = astuple(TrialConfig())\n"
    "def main(c: TrialConfig):\n    (lr,) = astuple(c)\n",
    "unpacked values": "@dataclass\nclass TrialConfig:\n    lr: float = 1.0\ndef main(c: TrialConfig):\n"
    "    (lr,) = vars(c).values()\n",
    "walked to be moved": "@dataclass\nclass TrialConfig:\n    x: Tensor\n    def to(self, d):\n"
    "        return type(self)(*(getattr(self, f.name).to(d) for f in fields(self)))\n",
    "walked to be averaged": "@dataclass\nclass TrialConfig:\n    x: float\n    def mean(self, n):\n"
    "        return type(self)(**{k: v / n for k, v in vars(self).items()})\n",
    "walked by values": "@dataclass\nclass TrialConfig:\n    x: float = 0.0\n    def total(self):\n"
    "        return [v.mean() for v in vars(self).values()]\n",
    "walked to be reset": "@dataclass\nclass TrialConfig:\n    x: float = 0.0\n    def reset(self):\n"
    "        for f in fields(type(self)):\n            setattr(self, f.name, 0.0)\n",
    "walked to be read": "@dataclass\nclass TrialConfig:\n    x: float = 0.0\n    @classmethod\n    def read(cls, d):\n"
    "        return cls(**{f.name: d[f.name] for f in fields(cls)})\n",
    "walked by a base": "@dataclass\nclass Base:\n    def read(self, d):\n"
    "        return Base(**{f.name: d[f.name] for f in fields(self)})\n"
    "@dataclass\nclass TrialConfig(Base):\n    x: int = 0\n",
}


def _patched(classes: str, folder: Path, energy_patch: Command) -> str:
    (name,) = re.findall(r"class (\w*(?:Trial|Cfg)\w*)", classes)
    script = folder / "train.py"
    script.write_text(START + classes + STEP.format(name="given", type=name))
    applied = energy_patch("apply", script)
    assert applied.exit_code == 0, applied.stderr
    return script.read_text()


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_gain_the_field(kind: str, tmp_path: Path, energy_patch: Command) -> None:
    patched = _patched(SETTINGS[kind], tmp_path, energy_patch)
    assert "    energy_tau: float = 0.07" in patched
    assert "tau=given.energy_tau" in patched


@pytest.mark.parametrize("kind", OTHERS)
def test_other_classes_stay_as_they_are(kind: str, tmp_path: Path, energy_patch: Command) -> None:
    patched = _patched(OTHERS[kind], tmp_path, energy_patch)
    assert "energy_tau" not in patched
    assert "tau=0.07" in patched
