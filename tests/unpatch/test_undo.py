"""Taking a patch back from a script that lived on."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_patch.record.schema import Record
from energy_patch.syntax.tokens import lex
from energy_patch.unpatch.current import current_entry
from energy_patch.unpatch.undo import undo
from tests.scripts.marked import TRAINING, read_marked
from tests.unpatch.taking_back import PATCH, edited, refuse, take_back

FORMATTED_MARKS = TRAINING.replace("# fmt: off", "# config").replace("    # fmt: on\n", "")


def test_untouched_gives_the_original_bytes() -> None:
    undone = undo(PATCH.source(), PATCH.entry)
    assert (undone.text, undone.exact, undone.notes) == (PATCH.before, True, ())


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("written", ["\n", "\r\n", "\r"])
def test_converted_line_ends(written: str, newline: str) -> None:
    patch = read_marked(TRAINING, newline=written)
    converted = patch.after.replace(written, newline)
    undone = undo(patch.source(converted), patch.entry)
    assert undone.text == patch.before.replace(written, newline)
    assert undone.exact == (written == newline)


# A formatter came by


STYLES = {
    "40": ["--line-length=40"],
    "88": ["--line-length=88"],
    "200": ["--line-length=200"],
    "joined": ["--line-length=320", "--config=format.skip-magic-trailing-comma=true"],
    "single quotes, two blanks": ["--config=format.quote-style='single'", "--config=indent-width=2"],
    "tabs": ["--line-length=60", "--config=format.indent-style='tab'"],
}
PLAIN_STYLE = ["format", "--line-length=88", "--config=format.skip-magic-trailing-comma=true"]
SORT = ["check", "--select=I", "--fix", "--quiet"]


def ruff(*arguments: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--stdin-filename=train.py", "-"]
    return subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout.decode()


def comments(text: str) -> list[str]:
    return [token.text for token in lex(text) if token.kind == "comment"]


def plainly(text: str, style: str) -> str:
    return ruff(*PLAIN_STYLE, text=ruff("format", *STYLES[style], text=ruff(*SORT, text=text)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("sort", [False, True])
def test_formatted(style: str, sort: bool) -> None:
    patch = read_marked(FORMATTED_MARKS)
    formatted = ruff("format", *STYLES[style], text=patch.after)
    assert formatted != patch.after
    formatted = ruff(*SORT, text=formatted) if sort else formatted
    result = take_back(formatted, patch)
    assert comments(result) == comments(patch.before)
    assert plainly(result, style) == plainly(patch.before, style)


def test_sorted_imports() -> None:
    moved = ruff(*SORT, text=PATCH.after)
    assert moved != PATCH.after
    assert ruff(*SORT, text=take_back(moved)) == ruff(*SORT, text=PATCH.before)


def test_formatted_with_a_tuned_value_and_edits() -> None:
    patch = read_marked(FORMATTED_MARKS)
    edited = patch.after.replace("float = 0.3 ", "float = 0.07 ").replace("1.0)", "norm = 2.0)")
    undone = undo(patch.source(ruff("format", "--line-length=60", text=edited)), patch.entry)
    assert "norm=2.0" in undone.text
    assert undone.notes == ("energy_tau = 0.07 is your own value",)


def test_only_what_the_patch_changed_is_put_back_in_a_reformatted_call() -> None:
    text = PATCH.after.replace(
        'new_infonce(energy_model, hidden, batch["actions"], mask, tau=energy_tau, world_size=world_size)',
        "new_infonce(\n            energy_model, hidden, batch['actions'],\n            mask,\n"
        "            tau=energy_tau, world_size=(world_size),\n        )",
    )
    assert take_back(text) == PATCH.before.replace(
        'energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], mask)\n    return',
        "energy_inbatch_swap_infonce(\n            energy_model, hidden, batch['actions'],\n            mask,\n"
        "        )\n    return",
    )


INLINE = (
    "«energy_inbatch_swap_infonce(model, h, a)¦new_infonce(replicate(model), h, a, tau=0.07, "
    "world_size=dist.get_world_size() if dist.is_initialized() else 1)»[0]"
)
IN_ONE_LINE = {
    "a function": f"def step(model, h, a): {INLINE}.backward()\n",
    "a lambda": f"step = lambda model, h, a: {INLINE}.backward()\n",
    "elif": f"if a is None:\n    train(model)\nelif {INLINE} > 0.1:\n    stop(model)\n",
    "while": f"while {INLINE}.item() > 0.5:\n    train(model)\n",
    "match": f"match {INLINE}:\n    case 1:\n        train(model)\n",
}


@pytest.mark.parametrize("name", IN_ONE_LINE)
@pytest.mark.parametrize("style", ["40", "88", "joined"])
def test_a_rank_count_within_the_call_that_a_formatter_wrapped(name: str, style: str) -> None:
    patch = read_marked(IN_ONE_LINE[name])
    formatted = ruff("format", *STYLES[style], text=patch.after)
    assert plainly(take_back(formatted, patch), style) == plainly(patch.before, style)


# Edits that have nothing to do with the patch stay, byte for byte: what is replaced in the patched text, and by what.
ELSEWHERE = {
    "above all": ("import os\n", "import os\nimport sys\n"),
    "below all": ("    draccus.wrap()(finetune)()\n", "    print('x')\n    draccus.wrap()(finetune)()\n# end\n"),
    "no final newline": ("draccus.wrap()(finetune)()\n", "draccus.wrap()(finetune)()"),
    "above the imports": ("import torch\n", "import torch\nimport torch.nn as nn\n"),
    "beside the imports": ("import replicate\n", "import replicate\nimport wandb\n"),
    "between the imports": ("import torch.distributed as dist\n", "import torch.distributed as dist\nimport wandb\n"),
    "blank lines between": ("import torch.distributed as dist\n", "import torch.distributed as dist\n\n\n"),
    "a comment above": ("        replicate(", "        # one model\n        replicate("),
    "a statement below": ("replicate(energy_model)\n", "replicate(energy_model)\n        energy_model.train()\n"),
    "a new field above": ("    energy_tau: float", "    new: int = 3\n    energy_tau: float"),
    "a new field below": ("    # fmt: on", "    new: int = 3\n    # fmt: on"),
    "the comment of another field": ("# Batch size per device", "# Batch size, one device"),
    "a removed neighbour": ("        optimizer.step()\n", ""),
    "a new argument in front": ("use_proprio=True, energy", "use_proprio=True, film=False, energy"),
    "a new argument behind": ("energy_tau=cfg.energy_tau)", "energy_tau=cfg.energy_tau, film=False)"),
    "a new argument behind, on a line": (
        "energy_tau = cfg.energy_tau,\n",
        "energy_tau = cfg.energy_tau,\n film=1,\n",
    ),
    "a new parameter behind": ("    energy_tau=0.3\n)", "    energy_tau=0.3,\n    film=False\n)"),
    "a note above the call": ("        energy_loss, positive", "        # note\n\n        energy_loss, positive"),
    "renamed results": ("energy_loss, positive, negative", "loss_e, pos, neg"),
    "another line end in one place": ("import os\n", "import os\r\n"),
    "trailing blanks": ("import os\n", "import os   \n"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_edits_elsewhere_stay(name: str) -> None:
    old, new = ELSEWHERE[name]
    expected = edited(old, new)
    undone = undo(PATCH.source(expected), PATCH.entry)
    assert not undone.exact
    for region in PATCH.entry.edits:
        assert expected.count(region.after) == 1, region.after
        expected = expected.replace(region.after, region.before)
    assert undone.text == expected


TUNED = {
    "the field": ("energy_tau: float = 0.3 ", "energy_tau: float = 0.5 ", "0.5"),
    "an expression": ("energy_tau: float = 0.3 ", "energy_tau: float = 1 / 3 ", "1 / 3"),
    "without alignment": ("energy_tau: float = 0.3                          # T", "energy_tau: float = .1 # T", ".1"),
    "the parameter": ("energy_tau=0.3", "energy_tau=0.1", "0.1"),
    "the parameter, by an expression": ("energy_tau=0.3", "energy_tau=max(0.1, 1 / 3)", "max(0.1, 1 / 3)"),
    "both": ("0.3", "0.25", "0.25"),
    "a long one": ("float = 0.3 ", "float = (\n        0.1 + 0.2\n    ) ", "(\n        0.1 + 0.2\n    )"),
}


@pytest.mark.parametrize("name", TUNED)
def test_a_tuned_value_still_counts(name: str) -> None:
    old, new, value = TUNED[name]
    undone = undo(PATCH.source(edited(old, new)), PATCH.entry)
    assert undone.text == PATCH.before
    assert undone.notes == (f"energy_tau = {value} is your own value",)


def test_a_name_is_free_where_the_script_has_its_own() -> None:
    text = PATCH.after.replace("import os\n", "import os\nimport torch.distributed as dist\n", 1)
    assert "dist.get_rank()" in take_back(text.replace("os.getcwd()", "dist.get_rank()"))
    text = PATCH.after.replace("import os\n", "import os\nfrom torch import distributed as dist\n", 1)
    assert "dist.get_rank()" in take_back(text.replace("os.getcwd()", "dist.get_rank()"))
    mine = "def mine(world_size):\n    return world_size + 1\n\n\n"
    text = PATCH.after.replace("def finetune", mine + "def finetune")
    assert take_back(text) == PATCH.before.replace("def finetune", mine + "def finetune")


def test_regions_that_read_alike_are_told_apart_by_what_stands_around_them() -> None:
    patch = read_marked(
        "def one(cfg):\n    return f(1«  +  1¦ + 1, energy_tau=cfg.energy_tau»)\n\n\n"
        "def two(cfg):\n    return f(2« + 1¦ + 1, energy_tau=cfg.energy_tau»)\n",
        names=("energy_tau",),
    )
    first, second = patch.after.split("\n\n\n")
    swapped = f"{second.rstrip()}\n\n\n{first}\n"
    assert take_back(swapped, patch) == (
        "def two(cfg):\n    return f(2 + 1)\n\n\ndef one(cfg):\n    return f(1  +  1)\n"
    )


def test_one_of_several_tuned_values_is_an_expression() -> None:
    patch = read_marked(
        "def f(a«!¦, energy_tau=0.07, energy_queue_size=256»):\n    g(a«!¦, tau=0.07, size=8, ranks=ranks»)\n",
        names=("energy_tau", "energy_queue_size"),
    )
    tuned = patch.after.replace("256", "2 * 64").replace(", tau=0.07", ", tau=cfg.tau")
    undone = undo(patch.source(tuned), patch.entry)
    assert undone.text == patch.before
    assert set(undone.notes) == {"energy_queue_size = 2 * 64 is your own value", "tau = cfg.tau is your own value"}


def test_a_bare_value_is_found_by_the_name_before_it() -> None:
    patch = read_marked(
        "class C:\n    other: int = 6  # six\n    batch_size: int = «!8¦6»  # per GPU\n    steps: int = «!1¦2»\n",
        names=(),
    )
    moved = "class C:\n    steps: int = 2\n\n    batch_size: int = 4  # my own note\n    other: int = 6  # six\n"
    undone = undo(patch.source(moved), patch.entry)
    assert undone.text == moved.replace("int = 4", "int = 8").replace("steps: int = 2", "steps: int = 1")
    assert undone.notes == ("batch_size = 4 is your own value",)
    record = Record({}, {"train.py": patch.entry})
    assert current_entry(record, "train.py", moved.replace("4", "6").encode()) == patch.entry
    assert current_entry(record, "train.py", patch.before.encode() + b"# put back, and edited\n") is None


CALL = "«old(m, h, a)¦new(m, h, a, tau=0.07, world_size=world_size)»"
IN_A_STRING = {
    "in one line": f'    print(f"loss {{{CALL}[1]:.4f}}")\n',
    "in several": f'    print(f"""\nloss {{{CALL}[1]:.4f}}\n""")\n',
    "two": f'    print(f"{{{CALL}[1]:.4f}} {{{CALL}}}", {CALL}, f"{{{CALL}}}")\n',
    "one in another": f"    print(f\"{{x + f'{{{CALL}}}'}}\")\n",
}


@pytest.mark.parametrize("name", IN_A_STRING)
def test_calls_in_f_strings(name: str) -> None:
    patch = read_marked(f"def step(m, h, a):\n    lr = 1e-4\n{IN_A_STRING[name]}")
    assert undo(patch.source(), patch.entry).text == patch.before
    assert take_back(patch.after.replace("1e-4", "3e-4"), patch) == patch.before.replace("1e-4", "3e-4")
    formatted = ruff("format", *STYLES["40"], text=patch.after)
    assert plainly(take_back(formatted, patch), "88") == plainly(patch.before, "88")


def test_names_added_to_a_list_of_names() -> None:
    patch = read_marked('log = Log(["loss", "energy"«¦, "energy_top1", "energy_margin"»])\n', names=())
    assert take_back(f"{patch.after}x = 1\n", patch) == f"{patch.before}x = 1\n"
    wrapped = ruff("format", *STYLES["40"], text=patch.after)
    assert plainly(take_back(wrapped, patch), "88") == patch.before


def test_a_field_that_a_formatter_wrapped_together_with_its_comment() -> None:
    patch = read_marked(
        "class C:\n    «!grad_accumulation_steps: int = 1¦grad_accumulation_steps: int = 2»  # Per rank and step\n",
        names=(),
    )
    wrapped = "class C:\n    grad_accumulation_steps: int = (\n        {}  # Per rank and step\n    )\n"
    assert ruff("format", "--line-length=40", text=patch.after) == wrapped.format(2)
    assert take_back(wrapped.format(2), patch) == wrapped.format(1)
    assert take_back(wrapped.format(4), patch) == wrapped.format(1)


def test_a_comment_of_the_user_within_the_patch_is_not_lost() -> None:
    text = PATCH.after.replace("dist.get_world_size() if", "(  # mine\n            dist.get_world_size() if")
    refuse(text.replace("initialized() else 1", "initialized() else 1)"))
    text = PATCH.after.replace("dist.get_world_size() if", "(dist.get_world_size() if")
    refuse(text.replace("initialized() else 1", "initialized() else 1  # mine\n            )"))
    assert take_back(text.replace("initialized() else 1", "initialized() else 1)")) == PATCH.before


def test_a_comma_put_before_a_comment() -> None:
    patch = read_marked(
        "def f(\n    a,\n    b«¦,»  # why\n«!¦    energy_tau=0.3\n»):\n    pass\n", names=("energy_tau",)
    )
    assert len(patch.entry.edits) == 1
    assert undo(patch.source(), patch.entry).text == patch.before
    assert take_back(patch.after + "\n# more\n", patch) == patch.before + "\n# more\n"
    assert "# because" in take_back(patch.after.replace("# why", "# because"), patch)
    formatted = ruff("format", text=patch.after)
    assert take_back(formatted, patch) == "def f(\n    a,\n    b,  # why\n):\n    pass\n"


def test_semicolons_and_one_line_suites() -> None:
    patch = read_marked("if x:\n    a = 1\n«¦    replicate(m)\n»    b = 2\n", names=("replicate",))
    assert take_back("if x:\n    a = 1; replicate(m); b = 2\n", patch) == "if x:\n    a = 1; b = 2\n"
    assert take_back("if x: replicate(m); b = 2\n", patch) == "if x: b = 2\n"
    assert take_back("if x: b = 2; replicate(m)\n", patch) == "if x: b = 2\n"
    assert take_back("if x:\n    replicate(m)  # mine\n    b = 2\n", patch) == "if x:\n    # mine\n    b = 2\n"
    refuse("if x: replicate(m)\n", patch)


@pytest.mark.parametrize(
    "comment", ["# noqa", "# noqa: E402, F401", "#type: ignore[import]", "# pylint: disable=C0413"]
)
def test_a_word_to_a_linter_goes_with_its_line(comment: str) -> None:
    text = edited("import replicate\n", f"import replicate  {comment}\n")
    assert take_back(text) == PATCH.before
    both = edited("import replicate\n", f"import replicate  {comment} # mine\n")
    assert f"\n{comment} # mine\n" in take_back(both)


@pytest.mark.parametrize("text", ["a = «b¦»\n", "f(a«¦,»)\n", "f(a«¦,»)\ng(b«¦, x»)\n"])
def test_an_edit_that_leaves_nothing_to_find_is_no_edit_of_ours(text: str) -> None:
    with pytest.raises(ValueError, match="found again"):
        read_marked(text, names=())


LINES = st.sampled_from(["x = 1", "# a note", "", "y = '''s'''", "print('energy_tau')", "import json", "z = f'{x}'"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), LINES), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
def test_inserted_lines_stay_and_the_rest_is_the_original(new: list[tuple[int, str]], newline: str) -> None:
    patch = read_marked(TRAINING, newline=newline)
    edited = with_lines(TRAINING, new).replace("\n", newline)
    again = read_marked(edited)
    assert take_back(again.after, patch) == again.before


def with_lines(marked: str, new: list[tuple[int, str]]) -> str:
    """A marked text with more statements in it, above, below, beside and between its edits."""
    starts = [match.end() for match in re.finditer("\n", marked) if is_free(marked, match.end())]
    for start, line in sorted(((starts[position % len(starts)], line) for position, line in new), reverse=True):
        indent = re.match("[«!¦]*( *)", marked[start:])
        marked = f"{marked[:start]}{indent[1] if indent else ''}{line}\n{marked[start:]}"
    return marked


def is_free(marked: str, start: int) -> bool:
    """Whether a statement may stand on a line of its own here: outside edits, brackets and headers."""
    before = marked[:start]
    inside = before.count("«") > before.count("»")
    depth = sum(before.count(opener) - before.count(closer) for opener, closer in ("()", "[]", "{}"))
    decorated = before.rstrip("\n").rpartition("\n")[2].startswith("@")
    return not inside and not depth and not decorated and bool(marked[start:].strip("«¦!\n "))
