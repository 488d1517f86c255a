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
    "model built elsewhere": (
        call("m, h, a, mask"),
        "",
        "not-found",
        2,
        "--broadcast-after LINE and --average-before LINE",
    ),
    "model from a dictionary": (call("kw['model'], h, a, mask"), "", "not-found", 3, "cannot be followed"),
    "no step": (training("pass\n"), "", "not-found", 7, "step of the optimiser"),
    "step on one rank": (
        training("if rank == 0:\n    optimizer.step()\n"),
        "",
        "unsupported",
        11,
        "`if rank == 0:`",
    ),
    "step unless the loss is bad": (
        training("if torch.isnan(h).any():\n    continue\noptimizer.step()\n"),
        "",
        "unsupported",
        11,
        "ranks may decide differently",
    ),
    "step in a handler": (
        training("try:\n    pass\nexcept RuntimeError:\n    optimizer.step()\n"),
        "",
        "unsupported",
        13,
        "ranks may decide differently",
    ),
    "step with a closure": (training("optimizer.step(closure)\n"), "", "unsupported", 11, "closure"),
    "FSDP": (
        training(
            "optimizer.step()\n",
            build="    energy_model = FSDP(EnergyModel())\n" + BUILD.replace("EnergyModel()", "FSDP(energy_model)"),
        ),
        "",
        "unsupported",
        7,
        "FSDP",
    ),
    "accelerator.prepare": (
        training("optimizer.step()\n", build=BUILD + "    energy_model = accelerator.prepare(energy_model)\n"),
        "",
        "unsupported",
        9,
        "accelerator.prepare",
    ),
    "rebuilt after its optimiser": (
        training("optimizer.step()\n", build=BUILD + "    energy_model.apply(init)\n"),
        "",
        "ambiguous",
        9,
        "initialised again",
    ),
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
        "compute it on every rank, or under torch.no_grad()",
    ),
    "loss behind a function that only rank 0 calls": (
        f"{IMPORT}def run(m, h, a):\n    return energy_inbatch_swap_infonce(m, h, a)\n"
        "def main(is_main_process):\n    if is_main_process:\n        run(m, h, a)\n",
        "--no-sync",
        "unsupported",
        5,
        "a condition on the rank",
    ),
    "step on the rank of the arguments": (
        training("if args.local_rank == 0:\n    optimizer.step()\n", build="    args = parser.parse_args()\n" + BUILD),
        "",
        "unsupported",
        12,
        "`if args.local_rank == 0:`",
    ),
    "step until too many batches were bad": (
        training(
            "if torch.isnan(h).any():\n    bad += 1\nif bad < 3:\n    optimizer.step()\n",
            build="    bad = 0\n" + BUILD,
        ),
        "",
        "unsupported",
        14,
        "`if bad < 3:`",
    ),
    "step under a handler that goes on": (
        training("try:\n    optimizer.step()\nexcept RuntimeError:\n    torch.cuda.empty_cache()\n"),
        "",
        "unsupported",
        13,
        "`except RuntimeError:`",
    ),
    "step under suppress": (
        training("with contextlib.suppress(RuntimeError):\n    optimizer.step()\n"),
        "",
        "unsupported",
        11,
        "suppress",
    ),
    "a loop that ranks leave on their own": (
        training("optimizer.step()\nif h.mean() < 0.1:\n    break\n"),
        "",
        "unsupported",
        12,
        "`if h.mean() < 0.1:`",
    ),
    "a config that is told the rank": (
        training("if cfg.chosen:\n    optimizer.step()\n", build="    cfg.chosen = dist.get_rank() == 0\n" + BUILD),
        "",
        "unsupported",
        12,
        "`if cfg.chosen:`",
    ),
    "step on the line of the backward pass": (
        training("loss.backward(); optimizer.step()\n"),
        "",
        "unsupported",
        11,
        "give it a line of its own",
    ),
    "step behind a backward pass in one line": (
        training("if i % 2: loss.backward(); optimizer.step()\n"),
        "",
        "unsupported",
        11,
        "give it a line of its own",
    ),
    "step in a one-line function": (
        training("step()\n", build=BUILD + "    def step(): optimizer.step()\n"),
        "",
        "unsupported",
        9,
        "one-line function",
    ),
    "step in a lambda": (
        training("step()\n", build=BUILD + "    step = lambda: optimizer.step()\n"),
        "",
        "unsupported",
        9,
        "one-line function",
    ),
    "step handed on": (
        training("run(optimizer.step)\n"),
        "",
        "unsupported",
        11,
        "handed on",
    ),
    "model past its wrapper": (
        training("optimizer.step()\n").replace("infonce(energy_model,", "infonce(energy_model.module,"),
        "",
        "unsupported",
        10,
        "past the wrapper",
    ),
    "built in a condition": (
        training(
            "optimizer.step()\n",
            build="    if (energy_model := EnergyModel()):\n        pass\n"
            "    optimizer = AdamW(energy_model.parameters())\n",
        ),
        "",
        "unsupported",
        7,
        "in the middle of a statement",
    ),
    "built and trained on one line": (
        f"{IMPORT}def train(model):\n    optimizer = AdamW(model.parameters())\n    for h, a in loader:\n"
        "        energy_inbatch_swap_infonce(model, h, a)[0].backward()\n        optimizer.step()\n"
        "if True: model = EnergyModel(); train(model)\n",
        "",
        "unsupported",
        7,
        "in the middle of a statement",
    ),
    "built only under a condition": (
        training(
            "optimizer.step()\n",
            build="    if cfg.lr:\n        energy_model = EnergyModel()\n"
            "        optimizer = AdamW(energy_model.parameters())\n",
        ),
        "",
        "ambiguous",
        12,
        "set energy_model = None before",
    ),
    "process group set up too late": (
        f"{IMPORT}def train(model):\n    dist.init_process_group()\n    optimizer = AdamW(model.parameters())\n"
        "    for h, a in loader:\n        energy_inbatch_swap_infonce(model, h, a)[0].backward()\n"
        "        optimizer.step()\nmodel = EnergyModel()\ntrain(model)\n",
        "",
        "ambiguous",
        3,
        "nobody to broadcast to",
    ),
    "nested too deeply": (
        f"{IMPORT}y = a{'.b' * 2400}\nx = energy_inbatch_swap_infonce(m, h, a)\n",
        "--no-sync",
        "unreadable",
        None,
        "nested too deeply",
    ),
    "by hand on one rank": (
        training("optimizer.step()\nif ranks.is_first:\n    print(i)\n"),
        "--average-before 13",
        "unsupported",
        12,
        "reached only where a condition on the rank holds",
    ),
    "by hand behind the step": (
        training("optimizer.step()\nprint(i)\n"),
        "--average-before 12",
        "not-found",
        12,
        "step is not behind that line (it is on line 11)",
    ),
    "FSDP around the build": (
        training("optimizer.step()\n", build=BUILD.replace("EnergyModel()", "FSDP(EnergyModel())")),
        "",
        "unsupported",
        7,
        "FSDP",
    ),
    "syntax error without the loss": ("def (\n", "", "unreadable", 1, "not valid Python"),
    "no statement on that line": (
        training("optimizer.step()\n"),
        "--broadcast-after 99 --average-before 11",
        "not-found",
        99,
        "no statement",
    ),
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
        "--no-sync --broadcast-after 3",
        "--broadcast-after 0",
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
