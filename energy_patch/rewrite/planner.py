"""Facts and a strategy make a plan: every edit of one file, in the order in which each kind needs the others."""

from __future__ import annotations

from collections.abc import Sequence

from energy_patch.locate.facts import Facts
from energy_patch.rewrite.calls import patch_calls
from energy_patch.rewrite.config_edits import add_fields, set_defaults
from energy_patch.rewrite.draft import Draft
from energy_patch.rewrite.import_edits import add_imports
from energy_patch.rewrite.logging_edits import LATEST_METRICS, logging_edits
from energy_patch.rewrite.passed import passed_temperatures
from energy_patch.rewrite.plan import Plan
from energy_patch.rewrite.temperature import note_run
from energy_patch.rewrite.threading import thread_parameters
from energy_patch.strategies.base import Choice, Strategy, Value


def make_plan(
    facts: Facts,
    strategy: Strategy,
    choice: Choice,
    recorded: dict[str, Value],
    *,
    replicates: bool,
    logs: bool = False,
    run: Sequence[Facts] = (),
) -> Plan:
    """Decide every edit for one file; `recorded` is what to remember of the options, `run` all files of the run.

    Raises:
        Refusal: the file cannot be patched so; nothing was written.
    """
    draft = Draft(facts, strategy, choice, replicates=replicates, passed=passed_temperatures(run or (facts,)))
    patch_calls(draft)
    note_run(draft, run or (facts,), logs=logs)
    thread_parameters(draft)
    _warn(draft)
    if logs and strategy.function and facts.calls:
        for edit, title in logging_edits(facts, draft.imported("metrics", LATEST_METRICS)):
            draft.add(edit, title)
    set_defaults(draft)
    add_fields(draft)
    add_imports(draft)
    return draft.plan(recorded)


def _warn(draft: Draft) -> None:
    for branch in draft.facts.branches:
        only, never = "comes to the patched loss only where", "does not come to the patched loss where"
        draft.note(f"line {branch.line}: a run {only if branch.is_reached else never} `{branch.test}` holds")
    if not draft.replicates:
        draft.notes.append(
            "--no-sync: the ranks train separate energy models, unless something else averages their gradients"
        )
    for item in draft.facts.warnings:
        where = f"{item.file}:{item.line}" if item.file else f"line {item.line}"
        draft.note(
            f"warning, {where}: {item.what} on one rank alone, and the other ranks then wait for it; take the decision "
            "on all ranks together"
        )
