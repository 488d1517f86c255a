"""The check that users run on their own machines: what it passes, what it must fail, and what it says of a mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from energy_losses import check_losses
from energy_losses.hybrid_infonce import hybrid_energy_infonce_loss

from energy_patch.strategies.registry import strategies
from tests.scripts.forked import launch

SAMPLE = Path(__file__).parents[2] / "energy_patch" / "demo" / "sample"
SMALL = ["--state-dim", "16", "--sequence", "12", "--chunk", "4", "--steps", "1"]
LIMIT = 120
MODELS = '''
import functools
import torch
import torch.distributed as dist
from energy.energy_model import EnergyModel

class DrawsOnItsRank(EnergyModel):
    """Each rank's energies have noise of the rank's own."""
    def forward(self, h, a, pad_mask=None):
        generator = torch.Generator().manual_seed(dist.get_rank())
        return super().forward(h, a + 0.1 * torch.randn(a.shape[1:], generator=generator), pad_mask)

class KeepsItsGradients(EnergyModel):
    """Computes with copies of its weights, whose gradients it adds to its own, as fused kernels do."""
    def forward(self, h, a, pad_mask=None):
        if torch.is_grad_enabled():
            copies = {name: weight.detach().requires_grad_() for name, weight in self.named_parameters()}
            for name, weight in self.named_parameters():
                copies[name].register_hook(functools.partial(give, weight))
        else:
            copies = dict(self.named_parameters())
        named = {f"model.{name}": weight for name, weight in copies.items()}
        return torch.func.functional_call(Inner(self), named, (h, a, pad_mask))

class Inner(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, h, a, pad_mask):
        return EnergyModel.forward(self.model, h, a, pad_mask)

def give(weight, gradient):
    weight.grad = gradient if weight.grad is None else weight.grad + gradient

class NoMemory(EnergyModel):
    """As if one rank's GPU were full, while the others are on their way to a collective."""
    def forward(self, h, a, pad_mask=None):
        if dist.get_rank() == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\\nGPU 1 has ...")
        return super().forward(h, a, pad_mask)

class OtherArguments(EnergyModel):
    def __init__(self, config, *, width):
        super().__init__(config, 7, width)

class SaysALot(EnergyModel):
    def __init__(self, state_dim, action_dim):
        raise RuntimeError("Error(s) in loading state_dict:\\n\\tsize mismatch\\n\\tfor head")

class Frozen(EnergyModel):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.requires_grad_(False)

class ReturnsADict(EnergyModel):
    def forward(self, *inputs):
        return {"energy": super().forward(*inputs)}

class TakesNoMask(EnergyModel):
    def forward(self, h, a):
        return super().forward(h, a)

class Noisy(EnergyModel):
    def forward(self, *inputs):
        energies = super().forward(*inputs)
        return energies + 0.1 * torch.randn_like(energies)

class Constant(torch.nn.Module):
    def __init__(self, state_dim, action_dim):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
    def forward(self, h, a, pad_mask=None):
        return 1 + 0 * self.weight * a.sum(dim=(1, 2)).unsqueeze(1)

class InItsOwnDtype(torch.nn.Module):
    """Casts nothing, so that it can be checked in any dtype."""
    def __init__(self, state_dim, action_dim):
        super().__init__()
        self.h, self.a = torch.nn.Linear(state_dim, 16), torch.nn.Linear(action_dim, 16)
    def forward(self, h, a, pad_mask=None):
        h = self.h(h).masked_fill(pad_mask.unsqueeze(2), 0).mean(dim=1)
        return torch.sigmoid((h * self.a(a).mean(dim=1)).sum(dim=1, keepdim=True))

instance = EnergyModel(16, 7)
'''

# A sound loss that nobody has heard of: noise beside all ranks' actions, under names of its own.
NEW_LOSS = """
import torch
from .infonce import Candidates, infonce_loss

def smoothed_loss(model, states, chunks, ignore_mask=None, *, strength, world_size=None, temperature=0.2):
    def noisy(actions):
        return Candidates(actions + strength * torch.randn_like(actions), 0.5)
    return infonce_loss(
        model, states, chunks, ignore_mask, temperature,
        min_distance=0.0, group=None, world_size=world_size, others=noisy,
    )

def picks_at_random(model, states, chunks, ignore_mask=None, *, strength, world_size=None):
    def some(actions):
        return Candidates(actions[torch.randperm(len(actions))[:2]])
    return infonce_loss(
        model, states, chunks, ignore_mask, strength,
        min_distance=0.0, group=None, world_size=world_size, others=some,
    )
"""


class Checked(NamedTuple):
    status: int
    output: str
    errors: str

    def verdicts(self, number: int) -> list[str]:
        """What was said of a claim, once for each loss."""
        return [line.split()[1] for line in self.output.splitlines() if line.startswith(f"{number}. ")]


@pytest.fixture
def patched(tmp_path: Path, energy_patch: Callable[..., object]) -> Callable[..., Path]:
    """A folder with the sample's code, and a script for each strategy."""

    def patch(*names: str, options: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / "code"
        shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        for name in names:
            script = folder / f"finetune_{name.replace('-', '_')}.py"
            shutil.copy(folder / "finetune_Energy.py", script)
            assert energy_patch("apply", "--strategy", name, *options, script).exit_code == 0  # type: ignore[attr-defined]
        (folder / "models.py").write_text(MODELS)
        (folder / "start.py").write_text(
            "import runpy\nrunpy.run_module('energy_losses.check', run_name='__main__', alter_sys=True)\n"
        )
        return folder

    return patch


def check(folder: Path, model: str, *options: str, ranks: int = 2) -> Checked:
    return Checked(*launch(ranks, folder / "start.py", model, *SMALL, *options, seconds=LIMIT))


def check_by(launcher: tuple[str, ...], folder: Path, model: str) -> Checked:
    """As a user starts it, in new processes."""
    command = [sys.executable, "-m", *launcher, model, *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return Checked(process.returncode, output, errors)


def test_every_strategy_holds(patched: Callable[..., Path]) -> None:
    names = list(strategies())
    found = check(patched(*names), "energy.energy_model:EnergyModel", "--accumulate", "2", ranks=3)
    assert found.status == 0, found
    assert found.verdicts(1) == found.verdicts(2) == ["ok"] * len(names), found
    assert sorted(found.verdicts(3)) == ["-", *["ok"] * (len(names) - 1)], found  # local-batch scores nothing anew
    assert found.verdicts(4) == ["-"] * len(names)
    assert "Traceback" not in found.errors


def test_under_torchrun(patched: Callable[..., Path]) -> None:
    command = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "energy_losses.check")
    found = check_by(command, patched("global"), "energy.energy_model:EnergyModel")
    assert found.status == 0, found
    assert [*found.verdicts(1), *found.verdicts(2), *found.verdicts(3)] == ["ok"] * 3, found


@pytest.mark.parametrize(
    ("model", "verdicts"),
    [
        ("models:DrawsOnItsRank", ["FAILED", "ok", "ok"]),
        ("models:KeepsItsGradients", ["FAILED", "FAILED", "ok"]),
        ("models:Noisy", ["FAILED", "ok", "FAILED"]),
        ("models:Constant", ["FAILED", "FAILED", "FAILED"]),
    ],
)
def test_models_that_are_not_one(patched: Callable[..., Path], model: str, verdicts: list[str]) -> None:
    found = check(patched("global"), model)
    assert found.status == 1
    assert [*found.verdicts(1), *found.verdicts(2), *found.verdicts(3)] == verdicts, found


@pytest.mark.parametrize(
    ("file", "text", "instead", "verdicts"),
    [
        ("infonce.py", "(ranks.size / sum(rows))", "(1 / sum(rows))", ["FAILED", "ok", "ok"]),
        ("global_infonce.py", "world_size=world_size", "all_ranks=False", ["FAILED", "ok", "ok"]),
        ("infonce.py", "- energies / tau", "+ energies / tau", ["FAILED", "ok", "ok"]),
        ("ranks.py", "    broadcast_parameters(model, group=group)\n", "    pass\n", ["FAILED", "FAILED", "ok"]),
        ("scoring.py", "def energy_matrix(", "def energy_matrix(*args, **kwargs):\n"
         "    return _energy_matrix(*args, **kwargs).flip(1)\n\n\ndef _energy_matrix(", ["FAILED", "ok", "FAILED"]),
    ],
)  # fmt: skip
def test_losses_that_are_broken(
    patched: Callable[..., Path], file: str, text: str, instead: str, verdicts: list[str]
) -> None:
    folder = patched("global")
    module = folder / "energy_losses" / file
    source = module.read_text()
    assert text in source
    module.write_text(source.replace(text, instead))
    found = check(folder, "energy.energy_model:EnergyModel")
    assert found.status == 1
    assert [*found.verdicts(1), *found.verdicts(2), *found.verdicts(3)] == verdicts, found


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("energy.energy_model:Energy", "cannot import energy.energy_model:Energy (module"),
        ("models:OtherArguments", "it takes (config, *, width); give its arguments with --model-args"),
        ("models:NoMemory", "rank 1 of 2, building the model: out of memory (CUDA out of memory. Tried to allocate"),
        ("models:SaysALot", "(RuntimeError: Error(s) in loading state_dict: size mismatch for head); it takes"),
        ("models:Frozen", "makes a model without a parameter that is trained"),
        ("models:ReturnsADict", "ReturnsADict returns dict, and not an energy for each pair, [3, 1]"),
        ("models:TakesNoMask", "the model cannot be called as model(h, a, pad_mask): "),
        ("models:instance", "models:instance is no class but an instance of EnergyModel"),
        ("models:Noisy --device nowhere", "cannot compute on --device nowhere: "),
        ("models:Noisy --device cuda:7", "there is no GPU here"),
        ("models:Noisy --backend nowhere", "no process group with --backend nowhere: "),
        ("models:Noisy --device cpu --backend nccl", "--backend nccl needs a GPU for each rank"),
    ],
)
def test_a_mistake_is_one_line_on_every_rank(patched: Callable[..., Path], model: str, says: str) -> None:
    found = check(patched("global"), *model.split())
    assert found.status == 1
    lines = [line for line in found.errors.splitlines() if line.startswith("energy_losses.check")]
    # Before there is a group, a rank cannot wait for the others, and the launcher ends them with the first that leaves.
    assert len(lines) == 2 or (len(lines) == 1 and "--" in model), found
    assert "Traceback" not in found.errors
    assert len({*lines}) == 1
    assert says in lines[0]


def test_other_arguments_can_be_given(patched: Callable[..., Path]) -> None:
    found = check(patched("layer"), "models:OtherArguments", "--model-args", "16", "width=8")
    assert found.status == 0, found


def test_one_rank_is_too_few(patched: Callable[..., Path]) -> None:
    found = check_by(("energy_losses.check",), patched("global"), "energy.energy_model:EnergyModel")
    assert found.status == 1
    assert found.errors.startswith("energy_losses.check: needs at least 2 ranks and has 1")
    assert len(found.errors.splitlines()) == 1


def test_a_script_that_averages_gradients_itself(patched: Callable[..., Path]) -> None:
    found = check(patched("global", options=("--no-sync",)), "energy.energy_model:EnergyModel")
    assert found.status == 0, found
    assert "replicate is absent (--no-sync)" in found.output
    assert [*found.verdicts(1), *found.verdicts(2), *found.verdicts(3)] == ["ok", "-", "ok"], found


def test_the_temperature_is_the_scripts(patched: Callable[..., Path]) -> None:
    folder = patched("global")
    script = folder / "finetune_global.py"
    text = script.read_text("utf-8")
    assert "energy_tau: float = 0.07" in text
    script.write_text(text.replace("energy_tau: float = 0.07", "energy_tau: float = 0.2"), "utf-8")
    assert "infonce(tau=0.2, world_size=2)" in check(folder, "energy.energy_model:EnergyModel").output
    assert "infonce(tau=0.3, world_size=2)" in check(folder, "energy.energy_model:EnergyModel", "--tau", "0.3").output


@pytest.mark.parametrize(
    ("function", "noise", "verdict"),
    [
        ("smoothed_loss", "strength * torch.randn_like(actions)", "ok"),
        ("smoothed_loss", "strength * states[0, 0, :7]", "FAILED"),  # of the rank's own batch
        ("picks_at_random", "", "-"),
    ],
)
def test_a_loss_that_nobody_has_heard_of(patched: Callable[..., Path], function: str, noise: str, verdict: str) -> None:
    folder = patched("global")
    loss = NEW_LOSS.replace("strength * torch.randn_like(actions)", noise) if noise else NEW_LOSS
    (folder / "energy_losses" / "new.py").write_text(loss)
    path = folder / "energy_losses" / "patch.json"
    record = json.loads(path.read_text())
    record["scripts"]["finetune_global.py"].update(loss=f"new.{function}", options={"strength": 0.1})
    path.write_text(json.dumps(record))
    found = check(folder, "energy.energy_model:EnergyModel")
    assert found.verdicts(1) == [verdict], found
    assert found.verdicts(2) == ["ok"], found


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_weights_of_another_dtype(patched: Callable[..., Path], dtype: str) -> None:
    found = check(patched("global"), "models:InItsOwnDtype", "--dtype", dtype)
    assert found.status == 0, found


@pytest.mark.parametrize(
    ("lines", "arguments", "holds"),
    [
        ("", "m, h, a, layers, mask, 0.1, num_negatives=4", {"tau": 0.1, "num_negatives": 4}),
        ("tau: float = 2e-1", "m, h, a, layers, mask, tau=cfg.tau", {"tau": 0.2}),
        ("tau: float\ntau = 0.2", "m, h, a, layers, mask, tau=tau", {"tau": 0.2}),
        ("cfg = {'tau': x.y, 'n': f(b=3)}\ncfg = dict(tau=0.3)", "m, h, a, layers, mask, tau=cfg.tau", {"tau": 0.3}),
        ("# tau = 0.9", "m, h, a, layers, mask, tau=tau", {}),
        ("", "*everything", {}),
    ],
)
def test_what_a_script_holds(tmp_path: Path, lines: str, arguments: str, holds: dict[str, float]) -> None:
    script = tmp_path / "train.py"
    imported = "from .energy_losses.hybrid_infonce import hybrid_energy_infonce_loss as loss\n"
    script.write_text(f"{imported}{lines}\n# loss(m, h, a, layers, mask, 0.9)\nloss({arguments})\n")
    assert check_losses._values_in(script, hybrid_energy_infonce_loss) == holds
