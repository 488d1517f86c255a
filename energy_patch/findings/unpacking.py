"""A loss in the module beside the script that unpacks two results of a model that returns one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.neighbours import Module, Target
from energy_patch.findings.script import Finding, Place, Script
from energy_patch.findings.separate_models import base_of_build, built_values
from energy_patch.locate.near_misses import SIBLING
from energy_patch.syntax.tree import Scope

EXPLICIT_LOSS = "energy_infonce_loss"
TENSOR_METHODS = frozenset({"view", "squeeze", "unsqueeze", "reshape", "mean", "sum", "float", "detach", "flatten"})


def check(script: Script) -> Iterator[Finding]:
    for model in _model_classes(script):
        forward = _forward(model)
        if forward is None:
            continue
        for loss in _losses(script, model.module):
            line = _unpacks(loss.definition)
            if line is None or not _returns_one_tensor(forward, model.module):
                continue
            assert loss.definition is not None
            returned = next(node.lineno for node in ast.walk(forward) if isinstance(node, ast.Return))
            yield Finding(
                "unpacked-tensor",
                loss.module.path,
                line,
                f"{loss.name} unpacks two results of a model that returns one",
                f"{model.name}.forward returns one tensor (line {returned}), and {loss.name} would unpack its "
                "rows: ValueError for every batch size but 2.",
                "Do not call it as it is: take the model's result without `, _`. The losses of energy-patch do not "
                "rely on it.",
                (Place(returned, f"{model.name}.forward returns one tensor"),),
            )


def _model_classes(script: Script) -> Iterator[Target]:
    """The classes beside the script that its energy model is made of."""
    if script.model is None:
        return
    seen: set[str] = set()
    for statement, scope in script.model.builds:
        for value in built_values(script, statement):
            base = base_of_build(value)
            target = script.neighbours.resolve(base.func, scope) if isinstance(base, cst.Call) else None
            if target is not None and isinstance(target.definition, ast.ClassDef) and target.name not in seen:
                seen.add(target.name)
                yield target


def _losses(script: Script, module: Module) -> Iterator[Target]:
    """`energy_infonce_loss` of the model's module, and its other losses that the script does call with the model."""
    names = {EXPLICIT_LOSS} & set(module.definitions)
    for call, scope in script.tree.calls:
        target = script.neighbours.resolve(call.func, scope)
        if (
            target is not None
            and target.module is module
            and SIBLING.fullmatch(target.name)
            and _gets_model(script, call, scope)
        ):
            names.add(target.name)
    yield from (Target(module, name) for name in sorted(names))


def _gets_model(script: Script, call: cst.Call, scope: Scope) -> bool:
    assert script.model is not None
    return bool(call.args) and script.follower.ref(call.args[0].value, scope) in script.model.refs


def _forward(model: Target) -> ast.FunctionDef | None:
    assert isinstance(model.definition, ast.ClassDef)
    found = [node for node in model.definition.body if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    return found[-1] if found else None


def _unpacks(definition: ast.AST | None) -> int | None:
    """The line on which a function unpacks two or more results of a call of its first parameter."""
    if not isinstance(definition, ast.FunctionDef) or not definition.args.args:
        return None
    model = definition.args.args[0].arg
    stores = [node for node in ast.walk(definition) if isinstance(node, ast.Name) and node.id == model]
    if any(isinstance(node.ctx, ast.Store) for node in stores):
        return None
    for node in ast.walk(definition):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        is_model = isinstance(node.value.func, ast.Name) and node.value.func.id == model
        target = node.targets[0]
        is_plain = isinstance(target, ast.Tuple) and not any(isinstance(item, ast.Starred) for item in target.elts)
        if is_model and is_plain and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            return node.lineno
    return None


def _returns_one_tensor(forward: ast.FunctionDef, module: Module) -> bool:
    """No return is a tuple, and either the annotation or a loss in the same file shows that it is a tensor."""
    returned = [node.value for node in _own(forward) if isinstance(node, ast.Return)]
    if not returned or not all(_is_no_tuple(value, forward) for value in returned):
        return False
    annotation = ast.unparse(forward.returns) if forward.returns is not None else ""
    return annotation in ("torch.Tensor", "Tensor") or any(
        _used_as_tensor(node) for node in module.definitions.values()
    )


def _is_no_tuple(value: ast.expr | None, forward: ast.FunctionDef) -> bool:
    if isinstance(value, ast.IfExp):
        return _is_no_tuple(value.body, forward) and _is_no_tuple(value.orelse, forward)
    if value is None or isinstance(value, ast.Tuple | ast.List | ast.Dict | ast.Constant):
        return False
    if not isinstance(value, ast.Name):
        return True
    assigned = [
        node.value
        for node in _own(forward)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == value.id for target in node.targets)
    ]
    return not any(isinstance(node, ast.Tuple | ast.List | ast.Dict | ast.IfExp) for node in assigned)


def _used_as_tensor(definition: ast.AST) -> bool:
    """`energy_model(...).view(...)` in the in-batch loss, which the script trains with."""
    if not isinstance(definition, ast.FunctionDef) or definition.name != "energy_inbatch_swap_infonce":
        return False
    model = definition.args.args[0].arg if definition.args.args else ""
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and node.attr in TENSOR_METHODS and isinstance(node.value, ast.Call):
            callee = node.value.func
            if isinstance(callee, ast.Name) and callee.id == model:
                return True
    return False


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
