"""Every refusal: reason, line, what was seen and what to do; nothing written, no traceback."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.conftest import Command, snapshot

IMPORT = "from energy.energy_model import energy_inbatch_swap_infonce\n"
CONFIG = "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 1e-3\n"
BUILD = "    energy_model = EnergyModel()\n    optimizer = AdamW(energy_model.parameters())\n"
LOSS = "        energy_inbatch_swap_infonce(energy_model, h, a, mask)[0].backward()\n"


def call(arguments: str) -> str:
    return f"{IMPORT}def run(m, h, a, mask, *args, **kw):\n    return energy_inbatch_swap_infonce({arguments})\n"


def training(step: str, build: str = BUILD, before: str = "") -> str:
    body = textwrap.indent(textwrap.dedent(step), " " * 8)
    head = f"{IMPORT}{CONFIG}def main(cfg: Config):\n{before}{build}"
    return f"{head}    for i, (h, a, mask) in enumerate(loader):\n{LOSS}{body}"


CASES = {
    # name: (script, options, reason, line, words of the message)
    "no call": ("import torch\n", "", "not-found", None, "not called in this script"),
    "call in a comment": (
        f"{IMPORT}# loss = energy_inbatch_swap_infonce(m, h, a)\n",
        "",
        "not-found",
        None,
        "line 2: a call in a comment",
    ),
    "Chinese comment": (
        f"{IMPORT}# 旧的: energy_inbatch_swap_infonce(m, h, a)\n",
        "",
        "not-found",
        None,
        "line 2: a call in a comment",
    ),
    "sibling": (
        "from energy.energy_model import energy_inbatch_swap_infonce_2d\nx = energy_inbatch_swap_infonce_2d(m, h, a)\n",
        "",
        "not-found",
        None,
        "line 2: energy_inbatch_swap_infonce_2d, another loss",
    ),
    "star import": (
        "from energy.energy_model import *\nx = energy_inbatch_swap_infonce(m, h, a)\n",
        "",
        "not-found",
        None,
        "line 1: star import of energy.energy_model",
    ),
    "shadowing local": (
        f"{IMPORT}def run(energy_inbatch_swap_infonce, m, h, a):\n    return energy_inbatch_swap_infonce(m, h, a)\n",
        "",
        "not-found",
        None,
        "line 3: a call of a name that means something else here",
    ),
    "passed around": (
        f"{call('m, h, a, mask')}loss = energy_inbatch_swap_infonce\n",
        "",
        "unsupported",
        4,
        "used here without being called",
    ),
    "rebound": (
        f"{IMPORT}if FAST:\n    energy_inbatch_swap_infonce = other\nx = energy_inbatch_swap_infonce(m, h, a)\n",
        "",
        "ambiguous",
        4,
        "bound on line 3",
    ),
    "starred arguments": (call("*args"), "--no-sync", "unsupported", 3, "*args"),
    "starred keywords": (call("m, h, a, **kw"), "--no-sync", "unsupported", 3, "**kw"),
    "too few": (call("m, h"), "--no-sync", "unsupported", 3, "does not pass a_pos"),
    "too many": (call("m, h, a, mask, 0.5, 'mean', 1"), "--no-sync", "unsupported", 3, "more than the 6 arguments"),
    "unknown keyword": (call("m, h, a, temperature=1"), "--no-sync", "unsupported", 3, "temperature="),
    "computed reduce_steps": (
        call("m, h, a, mask, 0.5, kw['r']"),
        "--no-sync",
        "unsupported",
        3,
        "reduce_steps=kw['r']",
    ),
    "tau twice": (call("m, h, a, mask, 0.7"), "--no-sync --tau 0.5", "conflict", 3, "already passes tau=0.7"),
    "field of another type": (
        f"{IMPORT}{CONFIG}    energy_tau: str = 'x'\ndef run(m, h, a, cfg: Config):\n"
        "    return energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "conflict",
        6,
        "energy_tau: str",
    ),
    "field of another value": (
        f"{IMPORT}{CONFIG}    energy_tau: float = 0.2\ndef run(m, h, a, cfg: Config):\n"
        "    return energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync --tau 0.5",
        "conflict",
        6,
        "energy_tau = 0.2",
    ),
    "syntax error": (f"{IMPORT}def run(:\n    pass\n", "", "unreadable", 2, "not valid Python"),
    "another function of that name": (
        "def energy_inbatch_swap_infonce(energy_model, h, a_pos, tau=0.5, pad_mask=None):\n    pass\n"
        "x = energy_inbatch_swap_infonce(m, h, a, 0.5, mask)\n",
        "--no-sync",
        "unsupported",
        1,
        "takes (energy_model, h, a_pos, tau, pad_mask) instead of",
    ),
    "None where the import fails": (
        f"try:\n    {IMPORT}except ImportError:\n    energy_inbatch_swap_infonce = None\n"
        "x = energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "ambiguous",
        5,
        "bound on line 4",
    ),
    "an attribute instead of a field": (
        f"{IMPORT}{CONFIG}    energy_tau = 0.7\ndef run(m, h, a, cfg: Config):\n"
        "    return energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "conflict",
        6,
        "energy_tau: (no annotation)",
    ),
    "a bare generator": (
        f"{IMPORT}{CONFIG}def run(m):\n    return energy_inbatch_swap_infonce(m, h, a)\n"
        "def main(cfg: Config):\n    run(x for x in y)\n",
        "--no-sync",
        "unsupported",
        9,
        "a generator without parentheses",
    ),
    "loss on one rank": (
        f"{IMPORT}def run(m, h, a):\n    if dist.get_rank() == 0:\n"
        "        return energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "unsupported",
        3,
        "compute the loss on every rank, or under torch.no_grad()",
    ),
    "loss behind a function that only rank 0 calls": (
        f"{IMPORT}def run(m, h, a):\n    return energy_inbatch_swap_infonce(m, h, a)\n"
        "def main(is_main_process):\n    if is_main_process:\n        run(m, h, a)\n",
        "--no-sync",
        "unsupported",
        5,
        "a condition on the rank",
    ),
    "nested too deeply": (
        f"{IMPORT}y = a{'.b' * 2400}\nx = energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "unreadable",
        None,
        "nested too deeply",
    ),
    "syntax error without the loss": ("def (\n", "", "unreadable", 1, "not valid Python"),
}


@pytest.mark.parametrize("name", CASES)
def test_refusal(name: str, tmp_path: Path, energy_patch: Command) -> None:
    text, options, reason, line, words = CASES[name]
    script = tmp_path / "train.py"
    script.write_text(text, "utf-8")
    ran = energy_patch("apply", *options.split(), "--json", script)
    answer = ran.json["scripts"][0]
    assert (ran.exit_code, answer["outcome"], answer["reason"], answer["line"]) == (1, "refused", reason, line), answer
    assert words in answer["message"]
    assert snapshot(tmp_path) == {"train.py": text.encode()}

    told = energy_patch("apply", *options.split(), script).stderr
    where = f"{script}:{line}: " if line else f"{script}: "
    assert told.startswith(f"{where}refused ({reason}): ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b"import torch\0", None, "NUL"),
        (b"# -*- coding: nonsense -*-\n", 1, "encoding"),
        (b"x = 1\ny = '\xff'\n", 2, "0xff is not utf-8"),
        (None, None, "no such file"),
    ],
)
def test_unreadable(raw: bytes | None, line: int | None, words: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    if raw is not None:
        script.write_bytes(raw)
    for command in ("apply", "revert", "status"):
        ran = energy_patch(command, "--json", script)
        answer = ran.json["scripts"][0]
        assert (ran.exit_code, answer["reason"], answer["line"]) == (1, "unreadable", line)
        assert words in answer["message"]
    assert snapshot(tmp_path) == ({} if raw is None else {"train.py": raw})


def test_a_folder_is_no_script(tmp_path: Path, energy_patch: Command) -> None:
    ran = energy_patch("apply", tmp_path)
    assert ran.exit_code == 1
    assert "refused (unreadable): is a folder" in ran.stderr


def test_a_foreign_folder_stays(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    (tmp_path / "energy_losses").mkdir()
    (tmp_path / "energy_losses" / "mine.py").write_text("x = 1\n")
    before = snapshot(tmp_path)
    ran = energy_patch("apply", "--no-sync", script)
    assert ran.exit_code == 1
    assert "refused (conflict)" in ran.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "options",
    [
        "--tau 0",
        "--tau -1",
        "--tau nan",
        "--tau inf",
        "--tau many",
        "--strategy best",
        "--queue 3",
        "--min-distance 0",
        "--full",
        "--broadcast-after 3",
        "--average-before 3",
    ],
)
def test_usage_errors(options: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    before = snapshot(tmp_path)
    ran = energy_patch("apply", *options.split(), script)
    assert (ran.exit_code, ran.stdout) == (2, b"")
    assert "Error: " in ran.stderr
    assert snapshot(tmp_path) == before


def test_several_scripts_are_all_or_none(tmp_path: Path, energy_patch: Command) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(call("m, h, a, mask"))
    bad.write_text("import torch\n")
    before = snapshot(tmp_path)
    ran = energy_patch("apply", "--no-sync", "--json", good, bad)
    assert ran.exit_code == 1
    assert [item["outcome"] for item in ran.json["scripts"]] == ["not-attempted", "refused"]
    assert snapshot(tmp_path) == before
