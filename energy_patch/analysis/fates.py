"""What a call does with a module, its parameters or its optimizer that it is handed, by its name."""

from __future__ import annotations

import re
from typing import Literal

import libcst as cst

from energy_patch.analysis.vocabulary import (
    AGREES,
    EXCHANGES,
    GROWS,
    HARMLESS,
    LOADS,
    OPTIMIZER,
    PASSES_ON,
    SAVES,
    SCHEDULER,
    WRAPS,
    is_loss,
)
from energy_patch.syntax.nodes import dotted_name, last_name

What = Literal["module", "parts", "optimizer"]
Fate = Literal[
    "exchanged",
    "wrapped",
    "stepped",
    "saved",
    "loaded",
    "optimized",
    "kept",
    "passed on",
    "computed with",
    "nothing",
    "hidden",
]
OF_TORCH = re.compile(r"torch\.(?!(distributed|nn|optim|save|jit)\b)")
COLLECTIVE = re.compile(r"(dist|torch\.distributed|c10d|hvd)\.")


def fate_of(call: cst.Call, what: What) -> Fate:
    """What a call out of sight does with what it is handed; `hidden` where its name does not say."""
    name, dotted = last_name(call.func), dotted_name(call.func) or ""
    is_engine = name == "initialize" and "deepspeed" in dotted
    if name in AGREES:
        return "exchanged"
    if is_engine or (what != "optimizer" and name in WRAPS):
        return "wrapped"
    if name == "step" and what == "optimizer":
        return "stepped"  # scaler.step(optimizer)
    if EXCHANGES.search(name) or COLLECTIVE.match(dotted):
        return "exchanged"
    if name in SAVES:
        return "saved"
    if LOADS.search(name):
        return "loaded"
    if name in GROWS and isinstance(call.func, cst.Attribute):
        return "kept"
    if name in PASSES_ON:
        return "passed on"
    if SCHEDULER.search(name) or name in HARMLESS or is_loss(name):
        return "nothing"
    if what != "module":
        if OPTIMIZER.search(name):
            return "optimized"
        if OF_TORCH.match(dotted):
            return "computed with"
    return "hidden"
