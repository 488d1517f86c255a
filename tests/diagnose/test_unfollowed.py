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
    assert names(answer) == (set() if "other(energy_model" in text else {"separate-models"})  # other may exchange
    shown = energy_patch("diagnose", tmp_path / "finetune.py").stdout.decode()
    assert "Nothing" not in shown
    assert "Seen, but not followed" in shown


LOSSES = """\
from energy.energy_model import energy_inbatch_swap_infonce

LOSSES = {"swap": energy_inbatch_swap_infonce}


def get_loss(name):
    return LOSSES[name]


def register(registry):
    registry.update(swap=energy_inbatch_swap_infonce)


def average(model, loss=energy_inbatch_swap_infonce):
    for p in model.parameters():
        dist.all_reduce(p.grad)
"""
FROM_LOSSES = "import EnergyModel\nfrom losses import LOSSES, average, get_loss\nimport losses\n"


@pytest.mark.parametrize(
    ("call", "before", "imports"),
    [
        ("Losses.swap(energy_model)", "class Losses:\n    swap = staticmethod(energy_inbatch_swap_infonce)\n", IMPORT),
        ("swap(energy_model)", "swap = lambda m: energy_inbatch_swap_infonce(m, 1, 2)", IMPORT),
        ("swap()(energy_model)", "swap = lambda: energy_inbatch_swap_infonce", IMPORT),
        ("swap(energy_model)", "swap = energy_inbatch_swap_infonce if cfg.swap else None", IMPORT),
        ("swap(energy_model)", "losses = {'swap': energy_inbatch_swap_infonce}\nswap = losses.get('swap')", IMPORT),
        ("checkpoint(energy_inbatch_swap_infonce, energy_model, hidden)", "", IMPORT),
        ("LOSSES['swap'](energy_model)", "", FROM_LOSSES),
        ("losses.LOSSES['swap'](energy_model)", "", FROM_LOSSES),
        ("get_loss('swap')(energy_model)", "", FROM_LOSSES),
        ("getattr(losses, 'energy_inbatch_swap_infonce')(energy_model)", "", FROM_LOSSES),
        ("self.loss(energy_model)", "", IMPORT),
    ],
)
def test_separate_models_are_found_whatever_holds_the_loss(
    energy_patch: Command, tmp_path: Path, call: str, before: str, imports: str
) -> None:
    (tmp_path / "losses.py").write_text(LOSSES, "utf-8")
    text = elsewhere(call, before, imports)
    if call.startswith("self"):
        loop = text[text.index("for hidden") :]
        inner = "    def run(self, energy_model):\n" + "".join(f"        {line}\n" for line in loop.splitlines())
        text = text.replace(
            loop,
            "\n\nclass Trainer:\n    def __init__(self):\n        self.loss = energy_inbatch_swap_infonce\n\n"
            f"{inner}\n\nTrainer().run(energy_model)\n",
        )
    assert "separate-models" in names(diagnosed(energy_patch, tmp_path, text))


@pytest.mark.parametrize(
    "call",
    [
        "LOSSES2['swap'](energy_model)",
        "losses.other(energy_model)",
        "average(energy_model)",
        "getattr(losses, cfg.name)(energy_model)",
    ],
)
def test_models_handed_to_anything_else_may_be_shared(energy_patch: Command, tmp_path: Path, call: str) -> None:
    """What does not hold the loss, or does more than call it, cannot be told, or is read."""
    (tmp_path / "losses.py").write_text(LOSSES, "utf-8")
    assert names(diagnosed(energy_patch, tmp_path, elsewhere(call, "", FROM_LOSSES))) == set()


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


def test_files_that_were_not_read_are_named(energy_patch: Command, tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text("from energy.energy_model import energy_inbatch_swap_infonce\ndef f(:\n")
    text = elsewhere("compute(energy_model)", "", "import EnergyModel\nfrom losses import compute\n")
    assert {"line": 0, "path": "losses.py", "what": "cannot be read as Python, so it was left out"} in diagnosed(
        energy_patch, tmp_path, text
    )["unfollowed"]
    shown = energy_patch("diagnose", tmp_path / "finetune.py").stdout.decode()
    assert "  - losses.py: cannot be read as Python" in shown


SIBLING = """\
class EnergyModel:
    ...


def energy_inbatch_swap_infonce(energy_model, h, a_pos):
    ...


def pooled(energy_model, c, a_pos):
    return energy_inbatch_swap_infonce(energy_model, c.unsqueeze(1), a_pos)
"""


def test_the_script_s_own_calls_are_those_that_count(energy_patch: Command, tmp_path: Path) -> None:
    """`apply` patches those alone; another in the model's file is said where something calls it."""
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "energy_model.py").write_text(SIBLING, "utf-8")
    text = edited(LOOP, ("import EnergyModel,", "import EnergyModel, pooled,"))
    answer = diagnosed(energy_patch, tmp_path, text)
    assert [item["path"] for item in answer["calls"]] == [None]
    assert (names(answer), answer["unfollowed"]) == ({"local-negatives", "separate-models"}, [])
    more = "    loss = loss + pooled(energy_model, hidden, actions)\n    loss.backward"
    both = edited(text, ("    loss.backward", more))
    answer = diagnosed(energy_patch, tmp_path, both)
    assert [(item["path"], item["line"]) for item in answer["unfollowed"]] == [("energy/energy_model.py", 10)]
    assert "leaves this one" in whats(answer["unfollowed"])


def test_a_model_under_another_name(energy_patch: Command, tmp_path: Path) -> None:
    text = edited(
        LOOP,
        ("import EnergyModel, energy_inbatch_swap_infonce", "import EnergyModel as Net"),
        ("EnergyModel(", "Net("),
        (CALL, "energy_infonce_loss(energy_model, hidden)"),
    )
    assert names(diagnosed(energy_patch, tmp_path, text)) == {"separate-models"}
