"""What to do: one strategy, the command, and whether that command would be refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.sharing import Sharing
from energy_patch.diagnose.study import Study
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import Strategy
from energy_patch.strategies.registry import DEFAULT, strategies

RefusalOf = Callable[[Path, str], Refusal | None]  # why `apply` would refuse a script with a strategy, if it would


@dataclass(frozen=True)
class Recommendation:
    """What to do. `command` is None where nothing is to be done; `blocked` is why the command would be refused."""

    strategy: str | None
    why: str
    command: str | None
    blocked: str = ""


def recommend(study: Study, shared: Sharing, findings: Sequence[Finding], refusal_of: RefusalOf) -> Recommendation:
    """One recommendation for a script."""
    name = shlex.quote(str(study.path))
    if study.patch is not None:
        if not study.patch.is_intact:
            return Recommendation(None, "put the patch back as it was, or revert it, and diagnose again", None)
        chosen = study.patch.strategy.name if study.patch.strategy is not None else None
        cured = [item for item in findings if item.options]
        if cured:
            why = f"the patch is in place, but {'; and '.join(item.title for item in cured)}"
            options = " ".join(dict.fromkeys(item.options for item in cured))
            return Recommendation(chosen, why, f"energy-patch apply {options} {name}")
        return Recommendation(chosen, "the patch is in place; start training as before", None)
    if study.gpus == 1:
        helps = next((item for item in strategies().values() if item.on_one_rank), None)
        if helps is None or not study.loss:
            why = "one rank compares all samples of its batch already; nothing to gather and nothing to share"
            return Recommendation(None, why, None)
        command = f"energy-patch apply --strategy {helps.name} {name}"
        return _proven(helps.name, helps.on_one_rank, command, refusal_of(study.path, helps.name))
    if study.loss_uses.refusal is not None:
        why = "as soon as the loss's call can be replaced"
        return _proven(DEFAULT, why, f"energy-patch apply {name}", study.loss_uses.refusal)
    if not study.loss:
        why = "there is no call of the loss to replace"
        told = "no call of the loss can be replaced; call it directly, and run `energy-patch apply`"
        return Recommendation(None, told if study.loss_uses.names else why, None)
    best = strategies()[DEFAULT]
    negatives = study.gpus * study.batch_size - 1
    why = f"every sample is compared with {negatives} negatives, as on one GPU, and all ranks train one model"
    if shared.state == "shared":
        why = f"every sample is compared with {negatives} negatives, as on one GPU; your own synchronization may stay"
    parts = ["energy-patch apply", f"--strategy {best.name}", *_not_by_default(best, findings), name]
    return _proven(best.name, why, " ".join(parts), refusal_of(study.path, best.name))


def _not_by_default(strategy: Strategy, findings: Sequence[Finding]) -> list[str]:
    """The options that cure findings, apart from those which have that value anyway."""
    anyway = {"--sync", *(f"{option.flag} {option.default}" for option in strategy.options)}
    return [option for option in dict.fromkeys(item.options for item in findings) if option and option not in anyway]


def _proven(strategy: str, why: str, command: str, refusal: Refusal | None) -> Recommendation:
    """A recommendation after a dry run: a command that would be refused says so."""
    if refusal is None:
        return Recommendation(strategy, why, command)
    where = f"line {refusal.line}: " if refusal.line else ""
    return Recommendation(strategy, why, command, f"{where}{refusal.message}")
