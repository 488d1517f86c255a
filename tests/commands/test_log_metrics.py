"""`--log-metrics`: the figures go where the energies go, or it is refused with the lines to paste."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command, snapshot

HEAD = "from energy.energy_model import energy_inbatch_swap_infonce\nfrom collections import deque\n\n\n"
LOSS = "    loss, E_pos, E_neg = energy_inbatch_swap_infonce(m, h, a)\n"
FIGURE = 'latest_metrics()["{}"]'


def step(*lines: str, more: str = "") -> str:
    return f"{HEAD}def step(m, h, a):\n{LOSS}" + "".join(f"    {line}\n" for line in lines) + more


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (step('return {"E_pos": E_pos}'), ['"energy_margin": latest_metrics()["margin"]}']),
        (
            step('wandb.log({"E_pos": E_pos.item()}, step=3)'),
            ['"energy_margin": latest_metrics()["margin"].item()}, st'],
        ),
        (step('log({"E_pos": (p := E_pos.item()), "E_neg": E_neg})'), ['"energy_top1": latest_metrics()["top1"], ']),
        (step('log({"E_neg": show("E_neg", E_neg)})'), ['"energy_top1": show("E_neg", latest_metrics()["top1"])']),
        (step('log({"E_pos": E_pos})', more='KEYS = ("loss", "E_pos")\n'), ['"E_pos", "energy_top1", "energy_loss_']),
        (step('log({"E_pos": E_pos})', more='KEYS = ("E_pos",)\n'), ['("E_pos", "energy_top1", "energy_loss_']),
        (step('log({"E_pos": E_pos})', more='for key in "E_pos", "loss":\n    pass\n'), ['"loss", "energy_top1"']),
        (step('log({"E_pos": E_pos})', more='R = {"E_pos": deque(maxlen=3)}\n'), ['"energy_top1": deque(maxlen=3)']),
        (step('log({"E_pos": E_pos})', more='R = {"E_pos": 0.0}\n'), ['"energy_margin": 0.0}']),
        (
            step('log({"E_pos": E_pos})', more='R = {"E_pos": mean([x["E_pos"] for x in all])}\n'),
            ['"energy_top1": mean([x["energy_top1"] for x in all])'],
        ),
        (
            step('log({"E_pos": E_pos})', more='def other(E_pos):\n    return {"E_pos": 0.0}\n'),
            ['"E_pos": 0.0, "energy_top1": 0.0'],
        ),
        (step("for _ in a:", '    log({"E_pos": E_pos})'), ['        log({"E_pos": E_pos, "energy_top1": latest']),
    ],
)
def test_figures(text: str, expected: list[str], tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    ran = energy_patch("apply", "--log-metrics", script)
    assert ran.exit_code == 0, ran.stderr
    patched = script.read_text()
    assert all(words in patched for words in expected), patched
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        step('log({"E_pos": f"{E_pos:.3f}"})'),
        step('log({"E_pos": (p := E_pos.item())})'),
        step('log({f"{split}/E_pos": E_pos})'),
        step('log({"E_pos": E_pos})', 'log({"E_neg": E_neg})'),
        step("def inner(E_pos):", '    return {"E_pos": E_pos}'),
        step("return E_pos", more='\n\ndef log(E_pos):\n    return {"E_pos": E_pos}\n'),
        step("log(dict(E_pos=E_pos))"),
        step('metrics["E_pos"] = E_pos'),
        step("if h is None:", "    E_pos = 0 * loss", 'log({"E_pos": E_pos})'),
        step('log({"E_pos": E_pos})', more='R = {"E_pos": total}\n'),
        f'{HEAD}def step(m, h, a, E_pos=0):\n    log({{"E_pos": E_pos}})\n{LOSS}',
        f'{HEAD}E_pos = 0\n{LOSS.strip()}\ndef log(E_pos):\n    return {{"E_pos": E_pos}}\n',
    ],
)
def test_refused_with_the_lines_to_paste(text: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    before = snapshot(tmp_path)
    (answer,) = energy_patch("apply", "--log-metrics", "--json", script).json["scripts"]
    assert answer["reason"] == "unsupported"
    assert "`from energy_losses.metrics import latest_metrics` and" in answer["message"]
    assert snapshot(tmp_path) == before
    assert energy_patch("apply", script).exit_code == 0  # as the refusal advises
