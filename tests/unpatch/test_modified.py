"""Patches that were changed after apply: refused, with what was changed and the lines that would have to go."""

from __future__ import annotations

import pytest

from tests.scripts.marked import read_marked
from tests.unpatch.taking_back import PATCH, edited, refuse, take_back

CHANGED = {
    "the call": ("mask, tau=energy_tau", "~mask, tau=energy_tau"),
    "an argument more": ("world_size=world_size)", "world_size=world_size, group=g)"),
    "the line gone": ("        replicate(energy_model)\n", ""),
    "the line commented out": ("        replicate(", "        # replicate("),
    "another model": ("replicate(energy_model)\n", "replicate(policy)\n"),
    "the comment of the field": ("# Temperature of the InfoNCE loss", "# Temperature"),
    "the type of the field": ("energy_tau: float = 0.3", "energy_tau: int = 0.3"),
    "the rank count": ("if dist.is_initialized() else 1", "if dist.is_available() else 1"),
    "a comment inside": ("mask, tau=energy_tau, world", "mask, tau=energy_tau,  # mine\n            world"),
}
OTHER_MEANING = {
    "brackets that matter": ("dist.get_world_size() if", "dist.get_world_size if"),
    "other brackets that matter": ("is_initialized() else 1", "is_initialized(()) else 1"),
}
USED = {
    "twice": ("        replicate(energy_model)\n", "        replicate(energy_model)\n" * 2, "replicate"),
    "a use of the import": ("    return os.getcwd()", "    return dist.get_rank()", "dist"),
    "a use of the field": ("    return os.getcwd()", "    return cfg.energy_tau", "energy_tau"),
    "a use of the parameter": ("    return energy_loss,", "    return energy_loss / energy_tau,", "energy_tau"),
    "a use of the count": ("    return energy_loss,", "    return energy_loss * world_size,", "world_size"),
    "a use and a new value": (
        "    return energy_loss,",
        "    world_size = world_size * 2\n    return energy_loss,",
        "world_size",
    ),
    "a use at a call": ("    return os.getcwd()", "    return validate(energy_tau=0.7)", "energy_tau"),
    "a use in an f-string": ("os.getcwd()", "f'{cfg.energy_tau:.1f}'", "energy_tau"),
}
UNREADABLE_WITHOUT = {
    "a value of a line": ("        replicate(energy_model)\n", "        x = replicate(energy_model)\n"),
}
UNREADABLE = {
    "a keyword twice": ("use_proprio = True,", "use_proprio = True, energy_tau=0.7,"),
    "no Python": ("    return os.getcwd()", "    return os.getcwd("),
    "an open string": ("    return os.getcwd()", "    return '''"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_region_is_refused(name: str) -> None:
    old, new = CHANGED[name]
    message = refuse(edited(old, new)).message
    assert "the patch was changed after apply" in message
    assert "Changed or missing:" in message


@pytest.mark.parametrize("name", OTHER_MEANING)
def test_brackets_that_change_the_meaning_are_refused(name: str) -> None:
    old, new = OTHER_MEANING[name]
    message = refuse(edited(old, new)).message
    assert "does not mean what apply wrote" in message
    assert "world_size = dist.get_world_size() if dist.is_initialized() else 1" in message


@pytest.mark.parametrize("name", UNREADABLE_WITHOUT)
def test_what_is_no_python_without_the_patch_is_refused(name: str) -> None:
    old, new = UNREADABLE_WITHOUT[name]
    refusal = refuse(edited(old, new))
    assert "was edited so that without the patch it is not valid Python" in refusal.message
    assert refusal.line == line_with(PATCH.after, "        replicate(")


@pytest.mark.parametrize("name", USED)
def test_a_use_of_what_the_patch_brought_in_is_refused(name: str) -> None:
    old, new, word = USED[name]
    message = refuse(edited(old, new)).message
    said, _, line = message.partition(", which the patch brought in, outside the patch: ")
    assert said.endswith(f"uses {word}")
    assert word in line.splitlines()[0]  # the line of the use is quoted


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_script_that_is_no_python_any_more_is_refused(name: str) -> None:
    old, new = UNREADABLE[name]
    assert "was edited after apply, and now it is not valid Python" in refuse(edited(old, new)).message


def line_with(text: str, words: str) -> int:
    """The 1-based line of a text that holds these words first."""
    return text[: text.index(words)].count("\n") + 1


def test_a_refusal_names_what_changed_and_the_lines_that_would_have_to_go() -> None:
    edited = "import sys\n" + PATCH.after.replace("if dist.is_initialized() else 1", "if True else 1")
    refusal = refuse(edited)
    lines = refusal.message.splitlines()
    number = line_with(edited, "world_size = ")
    assert refusal.line == number
    at = lines.index(f"    {number}: world_size = dist.get_world_size() if True else 1")
    assert lines[at - 1] == "Changed or missing:"
    assert lines[at + 1] == "        apply wrote: world_size = dist.get_world_size() if dist.is_initialized() else 1"
    by_hand = lines[lines.index(next(line for line in lines if line.endswith("its lines:"))) :]
    assert "    9: import torch.distributed as dist" in by_hand
    assert f"    {number}: world_size = dist.get_world_size() if True else 1" in by_hand
    assert any(line.startswith("        before the patch: energy_inbatch_swap_infonce(ener") for line in by_hand)


CHANGED_LINES = {
    "commented out": ("        replicate(energy_model)\n", "        # replicate(energy_model)\n", "# replicate"),
    "another argument": ("mask, tau=energy_tau", "mask, tau=0.1", "mask, tau=0.1"),
    "one more import on the line": ("import replicate\n", "import replicate, x\n", "import replicate, x"),
    "the parameter's type": ("    energy_tau=0.3\n", "    energy_tau: float = 0.3\n", "energy_tau: float = 0.3\n"),
    "the field's type": ("energy_tau: float = 0.3", "energy_tau: int = 0.3", "energy_tau: int"),
}


@pytest.mark.parametrize("name", CHANGED_LINES)
def test_the_line_of_a_refusal_is_the_changed_line_of_today(name: str) -> None:
    old, new, words = CHANGED_LINES[name]
    edited = "\n\n" + PATCH.after.replace(old, new)
    assert edited.count(words) == 1
    assert refuse(edited).line == line_with(edited, words)


def test_a_missing_line_is_named_by_the_line_above_it() -> None:
    edited = "\n" + PATCH.after.replace("        replicate(energy_model)\n", "")
    refusal = refuse(edited)
    above = line_with(edited, "with torch.cuda.amp")
    assert f"    below {above}, missing: replicate(energy_model)" in refusal.message.splitlines()
    assert refusal.line == above


def test_what_stands_there_twice_is_named_with_its_line() -> None:
    start, end = PATCH.after.index("    with torch.cuda"), PATCH.after.index("    return energy_loss")
    edited = PATCH.after[:end] + PATCH.after[start:]
    refusal = refuse(edited)
    said = refusal.message.splitlines()
    line = line_with(edited, "        replicate(energy_model)")
    assert said[said.index("This part of the patch stands there more than once:") + 1] == (
        f"    {line}: replicate(energy_model)"
    )
    assert refusal.line == line


BLOCKS = [
    ("    if step > 3:\n        replicate(m)\n", "line 3 (`if step > 3:`) holds only lines of the patch", "`if`"),
    ("    if step > 3: replicate(m)\n", "line 3 (`if step > 3: replicate(m)`) holds only lines of", "`if`"),
    ("    if a:\n        b = 1\n    else:\n        replicate(m)\n", "line 5 (`else:`) holds only", "`else`"),
    ("    match a:\n        case 1:\n            replicate(m)\n", "line 4 (`case 1:`) holds only", "`case`"),
]


@pytest.mark.parametrize(("block", "words", "what"), BLOCKS)
def test_a_block_that_holds_only_the_patch(block: str, words: str, what: str) -> None:
    patch = read_marked("if x:\n    a = 1\n«¦    replicate(m)\n»    b = 2\n", names=("replicate",))
    refusal = refuse(patch.after.replace("    replicate(m)\n", block), patch)
    assert words in refusal.message
    assert f"put `pass` there, or delete the {what}" in refusal.message
    passed = block.replace("replicate(m)\n", "replicate(m); pass\n")
    assert take_back(patch.after.replace("    replicate(m)\n", passed), patch).count("pass") == 1
