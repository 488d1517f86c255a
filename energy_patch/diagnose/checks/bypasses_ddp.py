"""A module that is wrapped in DDP and then called through `.module`: its gradients are never averaged.

DDP arms its gradient hooks in its own forward. See https://github.com/moojink/openvla-oft/issues/160.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.aliases import wrapped_part
from energy_patch.analysis.conditions import without_gradients
from energy_patch.analysis.follower import uses_of
from energy_patch.analysis.refs import Ref
from energy_patch.analysis.uses import silent_exchanges
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.study import Study
from energy_patch.syntax.nodes import children, dotted_name, last_name
from energy_patch.syntax.scopes import Scope

DDP = frozenset({"DDP", "DistributedDataParallel"})
NO_GRADIENT = frozenset({"detach", "item", "tolist", "numpy", "argmax", "argmin", "data", "shape", "device", "dtype"})
BACKWARD = frozenset({"accelerator", "fabric", "self.accelerator", "self.fabric", "torch.autograd"})
OPERATIONS = (cst.BinaryOperation, cst.UnaryOperation, cst.BooleanOperation, cst.List, cst.Tuple)


def find(study: Study) -> Iterator[Found]:
    if study.gpus < 2:
        return
    around: dict[Ref, list[cst.Call]] = {}
    for call in sorted(trained_calls(study), key=study.line):
        module = called_around(call)
        ref = study.aliases.ref(module, study.program.scopes[call]) if module is not None else None
        if ref is not None:
            around.setdefault(ref, []).append(call)
    for ref, calls in around.items():
        module = called_around(calls[0])
        assert module is not None
        wrapped = _wrapped_at(study, module, ref)
        if not wrapped or not _is_left_alone(study, ref):
            continue
        name = study.program.text(module)
        lines = sorted({study.place(node, "it is wrapped") for node in wrapped}, key=lambda place: place.line)
        yield Found(
            calls[0],
            f"{name} is called as `{name}.module`, bypassing DDP, so its gradients are never averaged",
            f"DDP averages only after a forward through the wrapper: each rank trains its own {name}, from the same "
            "start (openvla-oft #160).",
            (*(study.place(call, "called so here, too") for call in calls[1:]), *lines),
        )


def trained_calls(study: Study) -> set[cst.Call]:
    """The calls whose results reach a `backward()` with their gradients on, as far as names lead back to them."""
    found: set[cst.Call] = set()
    for call, scope in study.program.calls:
        if last_name(call.func) != "backward" or without_gradients(study.program, call):
            continue
        loss = call.func.value if isinstance(call.func, cst.Attribute) else call.func
        if dotted_name(loss) in BACKWARD and call.args:
            loss = call.args[0].value
        for node in study.aliases.made_from(loss, scope, lambda node: _parts(study, node)):
            if isinstance(node, cst.Call):
                found.add(node)
    return found


def _parts(study: Study, node: cst.BaseExpression) -> list[cst.BaseExpression] | None:
    """What the gradients of a value flow back to; None where they stop."""
    if without_gradients(study.program, node):
        return None
    match node:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))) | cst.Attribute(attr=cst.Name(value=name)):
            if name in NO_GRADIENT:
                return None
    if isinstance(node, cst.Call):
        receiver = [node.func.value] if isinstance(node.func, cst.Attribute) else []
        return [*receiver, *(argument.value for argument in node.args)]
    if isinstance(node, cst.Attribute) or (isinstance(node, cst.Subscript) and _is_counted(node)):
        return [node.value]
    if isinstance(node, OPERATIONS):
        inner = [item.value if isinstance(item, cst.Element) else item for item in children(node)]
        return [item for item in inner if isinstance(item, cst.BaseExpression)]
    return []


def _is_counted(node: cst.Subscript) -> bool:
    """`x[0]`: what stands under a name in a dict may be anything."""
    index = node.slice[0].slice
    return isinstance(index, cst.Index) and isinstance(index.value, cst.Integer)


def called_around(call: cst.Call) -> cst.BaseExpression | None:
    """`x` in `x.module.method(...)` and `x.module(...)`."""
    inner = call.func
    if isinstance(inner, cst.Attribute) and inner.attr.value != "module":
        inner = inner.value
    return inner.value if isinstance(inner, cst.Attribute) and inner.attr.value == "module" else None


def _wrapped_at(study: Study, module: cst.BaseExpression, ref: Ref) -> list[cst.CSTNode]:
    """Where a module is made and wrapped by one call, else where DDP itself is called."""
    made = [item for item in study.aliases.upward([ref]).made if _ddp_calls(study, item.node, item.scope)]
    return [item.node for item in made] or _ddp_calls(study, module, study.program.scopes[module])


def _ddp_calls(study: Study, node: cst.BaseExpression, scope: Scope) -> list[cst.CSTNode]:
    made = study.aliases.made_from(node, scope, wrapped_part)
    return [node for node in made if isinstance(node, cst.Call) and _is_ddp(study, node.func)]


def _is_ddp(study: Study, callee: cst.BaseExpression) -> bool:
    return last_name(callee) in DDP and study.program.meaning(callee, study.program.scopes[callee]) is None


def _is_left_alone(study: Study, ref: Ref) -> bool:
    """Trained by an optimizer, never called through its wrapper, never exchanged by hand, never out of sight."""
    uses = uses_of(study.aliases, study.aliases.upward([ref]).refs, [call for call, _ in study.loss])
    through = [node for node in uses.called if not (isinstance(node, cst.Attribute) and node.attr.value == "module")]
    if not uses.optimized or through or uses.exchanged or uses.hidden:
        return False
    return not silent_exchanges(study.aliases)


BASE = """\
import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.optim import AdamW

action_head = DDP(ActionHead().cuda())
optimizer = AdamW(action_head.parameters())
layers = []
for hidden, actions in loader:
    with torch.no_grad():
        layers.append(action_head.module.predict_action(hidden))
    predicted = action_head.module.predict_action(hidden)  # here
    loss = torch.nn.functional.l1_loss(predicted, actions)
    loss.backward()
    optimizer.step()
"""
UNUSED = ("unused-layer-actions",)


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, edited(BASE, ("  # here", ""), *edits), UNUSED)


CHECK = Check(
    name="bypasses-ddp",
    weight=70,
    title="a module in DDP is called through `.module`, so its gradients are never averaged",
    why="DDP averages gradients only after a forward through the wrapper. A method that is called on `.module` goes "
    "around it, and each rank trains its own copy.",
    cure="Give the module a forward that does this and call the wrapper, or average its gradients by hand before the "
    "optimizer's step.",
    find=find,
    speaks=(
        Example("a method of the inner module", BASE, UNUSED),
        Example(
            "through functions",
            edited(
                BASE,
                ("DDP(ActionHead().cuda())", "wrap(ActionHead().cuda())"),
                ("\naction_head =", "\n\ndef wrap(module):\n    return DDP(module)\n\n\naction_head ="),
                ("loss.backward()", "scaled = loss / 4\n    scaled.backward()"),
            ),
            UNUSED,
        ),
    ),
    silent=(
        _silent("the wrapper is called", ("predicted = action_head.module.predict_action", "predicted = action_head")),
        _silent(
            "it is called through the wrapper, too", ("    predicted =", "    action_head(hidden)\n    predicted =")
        ),
        _silent("nothing is trained on the result", ("    loss.backward()\n", "")),
        _silent("the result is detached", ("(predicted, actions)", "(predicted.detach(), actions)")),
        _silent(
            "gradients are averaged by hand",
            (
                "    optimizer.step()",
                "    for p in action_head.parameters():\n        dist.all_reduce(p.grad)\n    optimizer.step()",
            ),
        ),
        _silent(
            "it is handed to what cannot be read",
            ("    optimizer.step()", "    agree(action_head.module)\n    optimizer.step()"),
        ),
        _silent("how it is wrapped is out of sight", ("DDP(ActionHead().cuda())", "load_action_head()")),
        _silent("no optimizer holds it", ("AdamW(action_head.parameters())", "AdamW(policy.parameters())")),
    ),
)
