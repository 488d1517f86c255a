"""A loss in the model's module that unpacks two results of a model that returns one."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP, SEPARATE
from energy_patch.diagnose.study import Study
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.near_misses import SIBLING
from energy_patch.syntax.nodes import dotted_name, own_nodes, returns_of

EXPLICIT_LOSS = "energy_infonce_loss"
TENSOR_METHODS = frozenset({"view", "squeeze", "unsqueeze", "reshape", "mean", "sum", "float", "detach", "flatten"})


def find(study: Study) -> Iterator[Found]:
    for model in study.model_classes:
        forward = study.program.method(model, "forward")
        if forward is None or not _returns_one_tensor(study, forward):
            continue
        returned = study.place(returns_of(forward)[0], f"{model.name.value}.forward returns one tensor")
        for loss in _losses(study, model):
            node = _unpacks(loss)
            if node is not None:
                yield Found(
                    node,
                    f"{loss.name.value} unpacks two results of a model that returns one",
                    f"{model.name.value}.forward returns one tensor ({returned.where}), and {loss.name.value} "
                    "would unpack its rows: ValueError for every batch size but 2.",
                    (returned,),
                )


def _losses(study: Study, model: cst.ClassDef) -> list[cst.FunctionDef]:
    """`energy_infonce_loss` of the model's module, and its other losses that are called in sight."""
    found = [
        binding.node
        for name, bindings in study.program.tree(model).root.bindings.items()
        for binding in bindings[-1:]
        if isinstance(binding.node, cst.FunctionDef) and SIBLING.fullmatch(name)
    ]
    return [node for node in found if node.name.value == EXPLICIT_LOSS or study.graph.callers(node)]


def _unpacks(function: cst.FunctionDef) -> cst.CSTNode | None:
    """Where a function unpacks two results of a call of its first parameter."""
    model = function.params.params[0].name.value if function.params.params else ""
    for node in own_nodes(function):
        if isinstance(node, cst.AssignTarget) and dotted_name(node.target) == model:
            return None
    for node in own_nodes(function):
        if isinstance(node, cst.Assign) and isinstance(node.value, cst.Call) and dotted_name(node.value.func) == model:
            target = node.targets[0].target
            elements = target.elements if isinstance(target, cst.Tuple) else ()
            if len(elements) == 2 and all(isinstance(item, cst.Element) for item in elements):
                return node
    return None


def _returns_one_tensor(study: Study, forward: cst.FunctionDef) -> bool:
    """No return is a tuple, and either the annotation or the in-batch loss of the same file shows a tensor."""
    returned = [item.value for item in returns_of(forward)]
    if not returned or not all(_is_no_tuple(value, forward) for value in returned):
        return False
    annotation = dotted_name(forward.returns.annotation) if forward.returns is not None else ""
    in_batch = study.program.tree(forward).root.bindings.get(ORIGINAL_LOSS, [])
    return annotation in ("torch.Tensor", "Tensor") or any(_uses_as_tensor(item.node) for item in in_batch)


def _is_no_tuple(value: cst.BaseExpression | None, forward: cst.FunctionDef) -> bool:
    if isinstance(value, cst.IfExp):
        return _is_no_tuple(value.body, forward) and _is_no_tuple(value.orelse, forward)
    if isinstance(value, cst.Name):
        assigned = [
            node.value
            for node in own_nodes(forward)
            if isinstance(node, cst.Assign) and any(dotted_name(item.target) == value.value for item in node.targets)
        ]
        return not any(isinstance(node, cst.Tuple | cst.List | cst.Dict | cst.IfExp) for node in assigned)
    return isinstance(value, cst.Call | cst.Attribute | cst.Subscript | cst.BinaryOperation | cst.UnaryOperation)


def _uses_as_tensor(function: cst.CSTNode) -> bool:
    """`energy_model(...).view(...)` in the loss that the script trains with."""
    if not isinstance(function, cst.FunctionDef) or not function.params.params:
        return False
    model = function.params.params[0].name.value
    return any(
        isinstance(node, cst.Attribute)
        and node.attr.value in TENSOR_METHODS
        and isinstance(node.value, cst.Call)
        and dotted_name(node.value.func) == model
        for node in own_nodes(function)
    )


MODEL = """\
import torch.nn as nn


class EnergyModel(nn.Module):
    def forward(self, h, a, pad_mask=None):
        return self.pool(join(h, a))


def energy_infonce_loss(energy_model, h, a_pos, a_negs, pad_mask, tau=0.25):
    E_pos, _ = energy_model(h, a_pos)  # here
    return E_pos.mean()


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5):
    return energy_model(h, a_pos, pad_mask).view(len(h), len(h))
"""
FILE = "energy/energy_model.py"


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, LOOP, SEPARATE, {FILE: edited(MODEL, ("  # here", ""), *edits)})


CHECK = Check(
    name="unpacked-tensor",
    weight=40,
    title="a loss unpacks two results of a model that returns one",
    why="`E, _ = energy_model(...)` unpacks the rows of the one tensor that the model returns: it raises for every "
    "batch size but 2.",
    cure="Do not call it as it is: take the model's result without `, _`. The losses of energy-patch do not rely on "
    "it.",
    find=find,
    speaks=(Example("the explicit loss of the public module", LOOP, SEPARATE, {FILE: MODEL}),),
    silent=(
        _silent("one result is taken", ("E_pos, _ = ", "E_pos = ")),
        _silent("the model returns two", ("return self.pool(join(h, a))", "return self.pool(join(h, a)), h")),
        _silent(
            "the model is made another first",
            ("    E_pos, _ =", "    energy_model = both(energy_model)\n    E_pos, _ ="),
        ),
        _silent("a star takes the rest", ("E_pos, _ = ", "E_pos, *_ = ")),
        Example("the module is out of sight", LOOP, SEPARATE),
        Example("the module cannot be parsed", LOOP, SEPARATE, {FILE: "def broken(:\n"}),
    ),
)
