"""The calls of the loss: another function, the original's arguments under its names, and those that are new."""

from __future__ import annotations

from collections.abc import Iterator

from energy_patch.locate.facts import ORIGINAL_LOSS, ORIGINAL_PARAMETERS, Call
from energy_patch.locate.written import Argument
from energy_patch.refusal import Refusal
from energy_patch.rewrite.config_edits import config_value, option_value
from energy_patch.rewrite.draft import Draft
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.rewrite.insertions import append_items, insert_item
from energy_patch.rewrite.replication import TITLE, Replication, refuse_lone_rank
from energy_patch.rewrite.world_size import WorldSize
from energy_patch.strategies.base import Option, Strategy
from energy_patch.strategies.registry import strategies


def patch_calls(draft: Draft) -> None:
    """One edit for each call that changes, and the lines before it.

    Raises:
        Refusal: a call cannot be handed what the new loss needs, or would hang.
    """
    refuse_lone_rank(draft)
    replication, world_size = Replication(draft), WorldSize(draft)
    for call in draft.facts.calls:
        bound = call.bound()
        inner = replication.edits(call, bound["energy_model"]) if draft.replicates else []
        title, is_literal = TITLE, False
        if draft.strategy.function:
            replaced, is_literal = _replaced(draft, world_size, call, bound)
            inner += replaced
            title = f"call {draft.strategy.function} instead of {ORIGINAL_LOSS}"
        if inner:
            start, end = call.function.start, call.arguments.close + 1
            shifted = [Edit(edit.start - start, edit.end - start, edit.text) for edit in inner]
            text = apply_edits(draft.source.text[start:end], shifted)
            holds = {option.keyword: option.name for option in draft.strategy.options if option.kind == "field"}
            draft.add(Edit(start, end, text), title, tunable=is_literal, holds=holds if is_literal else None)


def _replaced(draft: Draft, world_size: WorldSize, call: Call, bound: dict[str, Argument]) -> tuple[list[Edit], bool]:
    """Edits that make a call one of the new loss, and whether they leave a literal there."""
    _check_reduce_steps(call, bound)
    function = draft.imported(draft.strategy.module, draft.strategy.function)
    placed: set[str] = set()
    edits = [Edit(call.function.start, call.function.end, function), *_rebound(draft, call, bound, placed)]
    keywords = list(_keywords(draft, call, bound, placed))
    if draft.strategy.passes_world_size:
        keywords.append(f"world_size={world_size.at(call)}")
    dropped = bound.get("reduce_steps")
    if dropped is None:
        edits += append_items(draft.source, call.arguments, keywords)
    else:
        edits.append(Edit(dropped.span.start, dropped.span.end, ", ".join(keywords)))
    return edits, any(keyword.partition("=")[2][:1].isdigit() for keyword in keywords)


def _check_reduce_steps(call: Call, bound: dict[str, Argument]) -> None:
    argument = bound.get("reduce_steps")
    if argument is not None and not argument.is_literal:
        message = (
            f"the call passes reduce_steps={argument.value}, which {ORIGINAL_LOSS} never used and the new loss "
            "does not have; remove it from the call and run again"
        )
        raise Refusal("unsupported", message, line=call.line)


def _rebound(draft: Draft, call: Call, bound: dict[str, Argument], placed: set[str]) -> Iterator[Edit]:
    """Edits that hand the original's arguments over under the new loss's names and in its order.

    New parameters that come between them are put in their place and noted in `placed`.
    """
    positional = draft.strategy.positional
    place = 0
    for name in ORIGINAL_PARAMETERS[:-1]:
        argument = bound.get(name)
        if argument is None:
            continue
        new_name = draft.strategy.renamed.get(name, name)
        start = argument.span.start
        if argument.name is not None:
            if new_name != name:
                yield Edit(start, start + len(name), new_name)
            continue
        while place < len(positional) and (option := _variable(draft, positional[place])) is not None:
            place += 1
            placed.add(option.keyword)
            yield insert_item(draft.source, call.arguments, argument, _variable_name(draft, call, option))
        if place < len(positional) and positional[place] == new_name:
            place += 1
        else:
            place = len(positional)
            yield Edit(start, start, f"{new_name}=")


def _variable(draft: Draft, parameter: str) -> Option | None:
    return next(
        (item for item in draft.strategy.options if item.kind == "variable" and item.keyword == parameter), None
    )


def _variable_name(draft: Draft, call: Call, option: Option) -> str:
    name = str(draft.choice.value(option))
    if name not in call.in_scope:
        others = [item.name for item in strategies().values() if item.function and not _needs_variable(item)]
        message = (
            f"strategy {draft.strategy.name} needs {option.keyword}, and no variable {name} has a value above this "
            f"call; name the one that holds them with {option.flag} NAME, or take strategy "
            f"{' or '.join(others)}"
        )
        raise Refusal("not-found", message, line=call.line)
    return name


def _needs_variable(strategy: Strategy) -> bool:
    return any(option.kind == "variable" for option in strategy.options)


def _keywords(draft: Draft, call: Call, bound: dict[str, Argument], placed: set[str]) -> Iterator[str]:
    strategy = draft.strategy
    for option in strategy.options:
        if option.kind == "variable" and option.keyword not in placed:
            yield f"{option.keyword}={_variable_name(draft, call, option)}"
    if "pad_mask" not in bound and "pad_mask" in strategy.renamed:
        yield f"{strategy.renamed['pad_mask']}=None"
    for keyword, name in strategy.config_values:
        yield f"{keyword}={config_value(draft, call, keyword, name)}"
    for option in strategy.options:
        if (value := option_value(draft, call, option)) is not None:
            yield f"{option.keyword}={value}"
