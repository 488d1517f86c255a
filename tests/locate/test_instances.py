"""What counts as an instance of the config class, where the loss is called; else the literal stands at the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command

START = """\
from dataclasses import dataclass
from energy.energy_model import energy_inbatch_swap_infonce

@dataclass
class Config:
    lr: float = 1.0
    @classmethod
    def get_parser(cls):
        parser = ArgumentParser()
        return parser
    @staticmethod
    def build_model():
        return EnergyModel()
    @classmethod
    def from_yaml(cls, path):
        if path is None:
            return cls()
        config = cls.build(load(path))
        return config
    @classmethod
    def build(cls, values):
        return cls(**values)
    @classmethod
    def nested(cls):
        return cls.nested()
    @classmethod
    def said(cls) -> "Config": ...
    @classmethod
    def itself(cls) -> Self: ...
    def named(self):
        return self.lr
def load(path): return SimpleNamespace(lr=1.0)
def make() -> Config: ...
def make_plainly(): return Config()
def show(config: Config): ...
"""
CALL = "energy_inbatch_swap_infonce(m, h, a)\n"
INSTANCES = (
    "config = Config()",
    "config = Config.from_yaml('x')",
    "config = Config.said()",
    "config = Config.nested()",
    "config = Config.itself()",
    "config = Config.from_disk()",
    "config = draccus.parse(Config)",
    "config: Config = make()",
    "config: Config = make_plainly()",
    "config: Config = Config.itself()",
    "config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), given))",
    "config: Config = CONFIGS['small']",
    "config: Optional[Config] = Config()",
)
OTHERS = (
    "config = Config.get_parser()",
    "config = Config.build_model()",
    "config = Config.make_parser()",
    "config = Config.build_loader()",
    "config: Config = load('x')",
    "config: Config = OmegaConf.load('x.yaml')",
    "config: Config = cast(Config, namespace)",
    "config: Optional[Config] = None",
    "config: Config = None",
    "config: Config | None = CONFIGS.pop()",
)


def _patched(text: str, folder: Path, energy_patch: Command) -> str:
    script = folder / "train.py"
    script.write_text(text)
    applied = energy_patch("apply", script)
    assert applied.exit_code == 0, applied.stderr
    return script.read_text()


@pytest.mark.parametrize("line", INSTANCES)
def test_instance(line: str, tmp_path: Path, energy_patch: Command) -> None:
    assert "tau=config.energy_tau" in _patched(f"{START}{line}\n{CALL}", tmp_path, energy_patch)


@pytest.mark.parametrize("line", OTHERS)
def test_no_instance(line: str, tmp_path: Path, energy_patch: Command) -> None:
    assert "tau=0.07" in _patched(f"{START}{line}\n{CALL}", tmp_path, energy_patch)


HYDRA = """\
@dataclass
class Config:
    lr: float = 1.0
{}
@hydra.main(config_path="conf", config_name="train")
def main(config: Config) -> None:
    train(config)
def train(config: Config):
    energy_inbatch_swap_infonce(m, h, a)
"""


@pytest.mark.parametrize("line", ["ConfigStore.instance().store(name='train', node=Config)", "made = Config()"])
def test_a_class_that_hydra_is_given(line: str, tmp_path: Path, energy_patch: Command) -> None:
    text = START.partition("@dataclass")[0] + HYDRA.format(line)
    assert "tau=config.energy_tau" in _patched(text, tmp_path, energy_patch)


def test_a_class_that_hydra_never_sees(tmp_path: Path, energy_patch: Command) -> None:
    text = START.partition("@dataclass")[0] + HYDRA.format("")
    assert "tau=0.07" in _patched(text, tmp_path, energy_patch)
