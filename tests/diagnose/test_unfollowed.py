"""A loss that is imported, stored, passed on or defined but not followed: what was seen is said, never "nothing"."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.diagnose.check import edited
from energy_patch.diagnose.examples import LOOP
from tests.conftest import Command
from tests.diagnose.scripts import diagnosed, names, whats

CALL = "energy_inbatch_swap_infonce(energy_model, hidden, actions, mask)"
IMPORT = "import EnergyModel, energy_inbatch_swap_infonce\n"
BEFORE = "dist.init"


def elsewhere(call: str, before: str = "", imports: str = IMPORT) -> str:
    """The training loop, with its loss reached in another way."""
    edits = [(CALL, call), (BEFORE, f"{before}\n{BEFORE}"), (IMPORT, imports)]
    return edited(LOOP, *(edit for edit in edits if edit[0] != edit[1]))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            elsewhere("loss_fn(energy_model, hidden)", "loss_fn = partial(energy_inbatch_swap_infonce, tau=0.1)"),
            "loss_fn = partial",
            "passed to partial; call the loss directly",
        ),
        (
            elsewhere("losses['swap'](energy_model, hidden)", "losses = {'swap': energy_inbatch_swap_infonce}"),
            "losses = {",
            "stored in a dict; call the loss directly",
        ),
        (
            elsewhere("losses[0](energy_model, hidden)", "losses = [energy_inbatch_swap_infonce]"),
            "losses = [",
            "stored in a list or tuple",
        ),
        (
            elsewhere("loss_fn(energy_model, hidden)", "loss_fn = energy_inbatch_swap_infonce"),
            "loss_fn = energy",
            "given another name, which is not followed",
        ),
        (
            elsewhere("chosen()(energy_model, hidden)", "\ndef chosen():\n    return energy_inbatch_swap_infonce\n\n"),
            "    return energy",
            "returned by a function",
        ),
        (
            elsewhere("train(energy_model)", "\ndef train(model, loss=energy_inbatch_swap_infonce):\n    ...\n\n"),
            "def train(",
            "the default of a parameter",
        ),
        (elsewhere("other(energy_model)"), "from energy.", "is imported and not called in sight"),
        (
            elsewhere(
                "other(energy_model)",
                "\ndef energy_inbatch_swap_infonce(energy_model, h, a_pos):\n    ...\n\n",
                "import EnergyModel\n",
            ),
            "def energy_",
            "is defined and not called in sight",
        ),
        (
            elsewhere("getattr(module, 'energy_inbatch_swap_infonce')(energy_model)", "", "import EnergyModel\n"),
            "    loss, E_pos",
            "named in a string",
        ),
        (elsewhere(CALL, "", "import *\n"), "    loss, E_pos", "import energy_inbatch_swap_infonce explicitly"),
        (elsewhere("other(energy_model)", "", "import *\n"), "from energy", "what it brings in cannot be told"),
    ],
)
def test_what_was_seen_is_said(energy_patch: Command, tmp_path: Path, text: str, line: str, said: str) -> None:
    answer = diagnosed(energy_patch, tmp_path, text)
    assert any(
        said in item["what"] and text.splitlines()[item["line"] - 1].startswith(line) for item in answer["unfollowed"]
    ), answer["unfollowed"]
    assert answer["calls"] == []
    assert answer["recommendation"]["command"] is None
    assert names(answer) <= {"separate-models"}
    shown = energy_patch("diagnose", tmp_path / "finetune.py").stdout.decode()
    assert "Nothing" not in shown
    assert "Seen, and not followed" in shown


def test_separate_models_are_found_without_a_call(energy_patch: Command, tmp_path: Path) -> None:
    text = elsewhere("losses['swap'](energy_model, hidden)", "losses = {'swap': energy_inbatch_swap_infonce}")
    answer = diagnosed(
        energy_patch, tmp_path, edited(text, ("losses['swap'](energy_model, hidden)", "energy_model(hidden)"))
    )
    assert names(answer) == {"separate-models"}
    hidden = diagnosed(energy_patch, tmp_path, text)  # the dict's function is handed the model
    assert "does cannot be read" in whats(hidden["doubts"])


def test_no_trace_of_the_loss(energy_patch: Command, tmp_path: Path) -> None:
    answer = diagnosed(energy_patch, tmp_path, "print('hello')\n")
    assert "is not called in this script" in answer["notes"][0]
    shown = energy_patch("diagnose", tmp_path / "finetune.py").stdout.decode()
    assert "No findings; there is no call of the loss to look at" in shown


def test_another_loss_is_named(energy_patch: Command, tmp_path: Path) -> None:
    text = elsewhere("energy_infonce_loss(energy_model, hidden)", "", "import EnergyModel, energy_infonce_loss\n")
    answer = diagnosed(energy_patch, tmp_path, text)
    assert "energy_infonce_loss, another loss" in answer["notes"][0]
    assert names(answer) == {"separate-models"}


def test_a_call_in_another_file(energy_patch: Command, tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(
        "from energy.energy_model import energy_inbatch_swap_infonce\n\n\n"
        "def compute_losses(energy_model, hidden, actions):\n"
        "    return energy_inbatch_swap_infonce(energy_model, hidden, actions)\n\n\n"
        "def never_called(energy_model, hidden, actions):\n"
        "    return energy_inbatch_swap_infonce(energy_model, hidden, actions)\n",
        "utf-8",
    )
    text = edited(
        LOOP,
        (CALL, "compute_losses(energy_model, hidden, actions)"),
        (
            f"from energy.energy_model {IMPORT}",
            "from energy.energy_model import EnergyModel\nfrom losses import compute_losses\n",
        ),
    )
    answer = diagnosed(energy_patch, tmp_path, text)
    assert answer["calls"] == [{"path": "losses.py", "line": 5}]
    found = {item["name"]: (Path(item["path"]).name, item["line"]) for item in answer["findings"]}
    assert found == {"local-negatives": ("losses.py", 5), "separate-models": ("finetune.py", 7)}
    assert answer["recommendation"]["blocked"] == ""
