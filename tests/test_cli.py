"""The command line: streams, exit codes, JSON, and what a person is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from energy_patch import __version__
from energy_patch.cli import run
from energy_patch.strategies.registry import strategies
from tests.conftest import Command, snapshot, working_directory
from tests.scripts.json_schema import faults

SCRIPT = """\
from dataclasses import dataclass
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

@dataclass
class Config:
    lr: float = 1e-3

def forward(energy_model, h, a, mask):
    return energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]

def validate(batch):
    forward(None, *batch)

def main(cfg: Config):
    energy_model = EnergyModel()
    optimizer = AdamW(energy_model.parameters())
    for step, batch in enumerate(loader):
        forward(energy_model, *batch).backward()
        optimizer.step()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_apply_tells_the_whole_story_on_stderr(script: Path, energy_patch: Command) -> None:
    with working_directory(script.parent):
        ran = energy_patch("apply", "train.py")
    assert (ran.exit_code, ran.stdout) == (0, b"")
    copied = ", ".join(sorted(path.name for path in (script.parent / "energy_losses").iterdir()))
    assert "global_infonce.py, " in copied
    assert ran.stderr.splitlines() == [
        "train.py: patched, strategy global",
        "  line  3  import torch.distributed",
        "  line  4  import distributed_energy_inbatch_swap_infonce",
        "  line  5  import replicate",
        "  line 10  Config gains the field energy_tau",
        "  line 12  forward takes energy_tau",
        "  line 13  the ranks' energy models are kept equal",
        "  line 14  get the world size",
        "  line 15  call distributed_energy_inbatch_swap_infonce instead of energy_inbatch_swap_infonce",
        "  line 24  main passes energy_tau=cfg.energy_tau",
        "  - temperature: 0.5 (the original's default) becomes 0.07, the default of the config field energy_tau; "
        "--tau 0.5 keeps the old one (energies within 2 of each other need it near 0.07: held-out top-1 of 24 on the "
        "original script, patched, 8 x 3, 500 steps: 0.252 at 0.5, 0.381 at 0.3, 0.844 at 0.1, 0.871 at 0.05)",
        "  - the loss's curve jumps, since there are more candidates: 8 ranks x 3 start near ln 24 = 3.18 instead of "
        "ln 3 = 1.10; compare top1 or loss_over_log_n of energy_losses.metrics.latest_metrics() instead (--log-metrics "
        "logs them)",
        "  - line 18: validate calls forward without a config in scope, so energy_tau=0.07 holds there",
        f"  new in energy_losses/: {copied}",
        "Next, in the script's folder: torchrun --nproc-per-node 8 -m energy_losses.check MODULE:CLASS, your energy "
        "model's, say energy.energy_model:EnergyModel. If all is ok, start training as before.",
        "To take it back: energy-patch revert train.py",
    ]
    # The lines named are those of the patched script.
    lines = script.read_text().splitlines()
    assert lines[12] == "    replicate(energy_model)"
    assert lines[23] == "        forward(energy_model, *batch, energy_tau=cfg.energy_tau).backward()"


@pytest.mark.parametrize("options", [["--dry-run"], ["--check"], ["--dry-run", "--full"], ["--dry-run", "--check"]])
def test_nothing_is_written(options: list[str], script: Path, energy_patch: Command) -> None:
    before = snapshot(script.parent)
    ran = energy_patch("apply", *options, script)
    assert ran.exit_code == (3 if "--check" in options else 0)
    assert ran.stderr.startswith(f"{script}: would change")
    assert ran.stdout.startswith(b"diff --git") == ("--dry-run" in options)
    assert snapshot(script.parent) == before


def test_a_dry_run_shows_the_script_and_names_the_new_files(script: Path, energy_patch: Command) -> None:
    with working_directory(script.parent):
        ran = energy_patch("apply", "--dry-run", "train.py")
    assert ran.stdout.startswith(b"diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ ")
    assert b"energy_losses/scoring.py" not in ran.stdout
    assert "new in energy_losses/: __init__.py, " in ran.stderr


def test_check_answers_by_exit_code(script: Path, energy_patch: Command) -> None:
    assert energy_patch("apply", "--check", script).exit_code == 3
    energy_patch("apply", script)
    assert energy_patch("apply", "--check", script).exit_code == 0
    assert energy_patch("apply", "--check", "--tau", "0.5", script).exit_code == 3


def test_json_is_one_object(script: Path, energy_patch: Command) -> None:
    answer = energy_patch("apply", "--json", script).json
    assert answer["outcome"] == "patched"
    (only,) = answer["scripts"]
    assert (only["path"], only["outcome"], only["reason"], only["line"]) == (str(script), "patched", None, None)
    assert {"line": 15, "title": only["edits"][7]["title"]} == only["edits"][7]
    assert only["diff"].startswith("diff --git ")


def test_status_goes_with_the_script(script: Path, energy_patch: Command) -> None:
    def said() -> tuple[int, str, str]:
        ran, in_json = energy_patch("status", script), energy_patch("status", "--json", script)
        assert (ran.stderr, in_json.stderr, in_json.exit_code) == ("", "", ran.exit_code)
        text = ran.stdout.decode().splitlines()[0].removeprefix(f"{script}")
        return ran.exit_code, text, in_json.json["scripts"][0]["outcome"]

    assert said() == (0, ": not patched", "not-applied")
    energy_patch("apply", script)
    assert said() == (0, ": patched, strategy global", "already-applied")
    script.write_text(script.read_text() + "x = 1\n")
    assert said() == (0, ": patched, strategy global", "already-applied")
    script.write_text(script.read_text().replace("replicate(energy_model)", "pass"))
    code, text, outcome = said()
    assert (code, outcome) == (1, "patch-modified")
    assert ": patch modified: " in text


def test_revert_of_a_plain_script_does_nothing(script: Path, energy_patch: Command) -> None:
    ran = energy_patch("revert", "--json", script)
    assert (ran.exit_code, ran.json["outcome"]) == (0, "not-applied")
    assert snapshot(script.parent) == {"train.py": SCRIPT.encode()}


def test_a_modified_patch_names_the_lines_and_stays(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", script)
    script.write_text(script.read_text().replace("replicate(energy_model)", "replicate(energy_model.m)"))
    before = snapshot(script.parent)
    for command in ("revert", "apply"):
        ran = energy_patch(command, script)
        assert ran.exit_code == 1
        assert "refused (patch-modified)" in ran.stderr
        assert "replicate(energy_model)" in ran.stderr
        assert snapshot(script.parent) == before


def test_several_scripts_share_the_modules(script: Path, energy_patch: Command) -> None:
    other = script.with_name("other.py")
    other.write_text(SCRIPT)
    ran = energy_patch("apply", "--json", script, other)
    assert [item["outcome"] for item in ran.json["scripts"]] == ["patched", "patched"]
    assert all(item["diff"].count("diff --git") == 1 for item in ran.json["scripts"])
    assert energy_patch("revert", script).exit_code == 0
    assert (script.parent / "energy_losses" / "ranks.py").exists()
    assert energy_patch("revert", other).exit_code == 0
    assert snapshot(script.parent) == {"train.py": SCRIPT.encode(), "other.py": SCRIPT.encode()}


def test_a_lost_record_is_not_an_unpatched_script(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", script)
    (script.parent / "energy_losses" / "patch.json").unlink()
    before = snapshot(script.parent)
    assert energy_patch("status", "--json", script).json["scripts"][0]["outcome"] == "patch-modified"
    ran = energy_patch("revert", script)
    assert ran.exit_code == 1
    assert f"{script}:4: refused (patch-modified): imports energy_losses, but energy_losses/patch.json" in ran.stderr
    assert snapshot(script.parent) == before


def test_a_link_and_its_target_are_one_script(script: Path, energy_patch: Command) -> None:
    link = script.with_name("link.py")
    link.symlink_to(script.name)
    ran = energy_patch("apply", link, script)
    assert ran.exit_code == 0, ran.stderr
    assert link.is_symlink()
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_text() == SCRIPT


def test_json_leaves_the_notes_to_stderr(script: Path, energy_patch: Command) -> None:
    ran = energy_patch("apply", "--json", script)
    assert ran.json["outcome"] == "patched"
    assert "temperature: 0.5 (the original's default) becomes 0.07" in ran.stderr


def test_local_batch_leaves_the_loss_of_one_rank_alone(script: Path, energy_patch: Command) -> None:
    text = SCRIPT.replace("lr: float = 1e-3", "batch_size: int = 8\n    grad_accumulation_steps: int = 1")
    text = text.replace("        forward(energy", "        if rank == 0: forward(energy")
    script.write_text(text)
    assert "computed only where a condition on the rank" in energy_patch("apply", "--no-sync", script).stderr
    ran = energy_patch("apply", "--no-sync", "--strategy", "local-batch", script)
    assert ran.exit_code == 0, ran.stderr
    assert "5 negatives (FEWER than the 7 at the default before, 8)" in ran.stderr


def unwrapped(energy_patch: Command, *arguments: str) -> str:
    return " ".join(energy_patch(*arguments, "--help").stdout.decode().split()).replace("- ", "-")


def test_help_tells_each_strategy_and_option_whole(energy_patch: Command) -> None:
    text = unwrapped(energy_patch, "apply")
    for strategy in strategies().values():
        assert f" {strategy.name} {strategy.summary}; {strategy.advice} ".replace("- ", "-") in text
        for option in strategy.options:
            owners = ", ".join(item.name for item in strategies().values() if item.option(option.name))
            field = f"config field {option.field}; " if option.field else ""
            assert f"{option.flag} " in text
            assert f"[{field}strategies {owners}; default: " in text


def test_help_has_exit_codes_and_whole_sentences(energy_patch: Command) -> None:
    group = unwrapped(energy_patch)
    for name, codes in {"apply": "0123", "revert": "012", "status": "012", "diagnose": "02", "demo": "012"}.items():
        text = unwrapped(energy_patch, name)
        listed = text.partition("Exit codes: ")[2]
        assert re.findall(r"(?:^| )(\d) (?=[a-z-])", listed) == [*codes], name
        sentence = re.search(r"(?:SCRIPT\.\.\.|\[OPTIONS\]) (?!SCRIPT)(.+?) Options:", text)
        assert sentence is not None
        assert sentence[1] in group


def test_version(energy_patch: Command) -> None:
    for flag in ("-V", "--version"):
        assert energy_patch(flag).stdout.decode() == f"energy-patch, version {__version__}\n"


def test_python_m_is_the_command_line(script: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "energy_patch", "apply", "--dry-run", str(script)], capture_output=True, timeout=60
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith(b"diff --git")
    version = subprocess.run([sys.executable, "-m", "energy_patch", "--version"], capture_output=True, timeout=60)
    assert version.stdout.startswith(b"energy-patch, version ")


def test_a_fault_of_our_own_is_one_line(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("gone")

    monkeypatch.setattr("energy_patch.commands.apply.apply", fail)
    monkeypatch.setattr(sys, "argv", ["energy-patch", "apply", str(script)])
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith(
        "energy-patch: internal error (IndexError: gone); the scripts are as they"
    )
    monkeypatch.setattr(sys, "argv", ["energy-patch", "apply", "--json", str(script)])
    with pytest.raises(SystemExit):
        run()
    answer = json.loads(capsys.readouterr().out)
    assert [*faults(answer)] == []
    assert (answer["outcome"], answer["scripts"]) == ("internal-error", [])
    monkeypatch.setenv("ENERGY_PATCH_DEBUG", "1")
    with pytest.raises(IndexError):
        run()
