"""Follow a module through a script, and every list, loop and optimiser that holds its parameters.

The question is what happens to it: is it wrapped, are its parameters or gradients exchanged between ranks, saved,
loaded, called. What goes somewhere that cannot be read is kept as an escape, and whoever asks decides what may hide
there. Nothing is guessed: a doubtful use is an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import libcst as cst

from energy_patch.findings.script import Script, is_none
from energy_patch.follow import Ref
from energy_patch.locate.near_misses import SIBLING
from energy_patch.synchronise import UNSUPPORTED, Trail
from energy_patch.syntax.tree import Comprehension, Scope, dotted_name, last_name

DDP = frozenset({"DDP", "DistributedDataParallel"})
# Names of whatever makes ranks agree. `torch.cuda.synchronize` and `broadcast_to` do not.
EXCHANGES = re.compile(
    r"all_?reduce|reduce_scatter|reduce_(grad|param)|all_?gather|all_to_all|broadcast(?!_to$|_tensors$|_shapes$)"
    r"|(^|_)sync(_|$)|(?<!torch_)synchroni[sz]e_|average_(grad|param|weight|model)|Distributed(?!Sampler)|ZeroRedundancy"
    r"|^dist$|^distributed$|^c10d$|^hvd$|horovod|deepspeed|^FSDP$|^DDP$|FullySharded|fully_shard|^prepare(_model)?$|register_\w*hook"
)
LOADS = re.compile(r"load|restore|resume|pretrained")
HOOK = re.compile(r"register_\w*hook|^no_sync$|^join$")
ACCESS = frozenset({"parameters", "named_parameters", "buffers", "named_buffers", "state_dict"})
STAYS = frozenset(  # methods that give the module back
    {"to", "cuda", "cpu", "float", "half", "bfloat16", "double", "type", "apply", "requires_grad_", "train", "eval"}
)
NUMBERS = frozenset({"numel", "item", "shape", "dtype", "device", "size", "dim", "ndim", "is_leaf", "requires_grad"})
HARMLESS = frozenset(
    {"print", "len", "isinstance", "hasattr", "id", "type", "repr", "str", "sum", "any", "all", "min", "max", "bool"}
    | {"count_parameters", "summary", "watch", "log", "info", "debug", "append_metrics", "unscale_", "step", "update"}
    | {"clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_grad_value", "get_total_norm", "deepcopy"}
    | {"load_state_dict", "copy_", "lerp_", "save", "save_file", "save_model", "zero_grad", "issubclass"}
)
SAVES = frozenset({"save", "save_file", "save_model", "save_pretrained"})
PASSES_ON = frozenset(
    {"list", "tuple", "filter", "chain", "set", "sorted", "dict", "zip", "enumerate", "reversed", "iter", "next"}
    | {"from_iterable", "parameters_to_vector", "_flatten_dense_tensors", "map", "items", "values", "compile"}
)
GROWS = frozenset({"append", "extend", "update", "add", "insert", "setdefault", "add_param_group"})
SCHEDULER = re.compile(r"LR$|[Ss]chedule|[Ww]armup|LambdaLR|GradScaler")
OPTIMISER = re.compile(r"adam|sgd|rmsprop|lion|adagrad|adadelta|lamb|muon|optim", re.IGNORECASE)


@dataclass(frozen=True)
class Escape:
    """A use that cannot be read: the identifiers of what it goes to, where at least these are known."""

    node: cst.CSTNode
    names: frozenset[str] | None
    on_one_rank: bool


class Uses:
    """All that a script does with one module."""

    def __init__(self, script: Script, start: Iterable[Ref], trail: Trail) -> None:
        self.script = script
        self.tree = script.tree
        self.wrapped: list[cst.CSTNode] = []
        self.exchanged: list[cst.CSTNode] = []
        self.saved: list[cst.CSTNode] = []
        self.loaded: list[cst.CSTNode] = []
        self.called: list[cst.CSTNode] = []
        self.handed: list[cst.Call] = []
        self.optimised: list[cst.Call] = []
        self.escapes: list[Escape] = []
        self._nodes: dict[Ref, list[tuple[cst.CSTNode, Scope]]] = {}
        for node, scope in [*self.tree.names, *self.tree.attributes]:
            if (ref := script.follower.ref(node, scope)) is not None:
                self._nodes.setdefault(ref, []).append((node, scope))
        self._loss = {call for call, _ in script.loss}
        self._modules: set[Ref] = set()
        self._parts: set[Ref] = set()
        self._climbed: set[cst.CSTNode] = set()
        self._waiting: list[tuple[Ref, bool]] = [(ref, True) for ref in start]
        self._waiting += [(ref, False) for ref in (*trail.optimisers, *trail.lists)]
        while self._waiting:
            self._follow(*self._waiting.pop())

    def hidden(self, pattern: re.Pattern[str], *, one_rank_is_fine: bool) -> list[cst.CSTNode]:
        """Where something whose name fits may happen to the module out of sight."""
        return [
            escape.node
            for escape in self.escapes
            if not (one_rank_is_fine and escape.on_one_rank)
            and (escape.names is None or any(pattern.search(name) for name in escape.names))
        ]

    def _follow(self, ref: Ref, is_module: bool) -> None:
        known = self._modules if is_module else self._parts
        if ref in known:
            return
        known.add(ref)
        if ref.attribute is not None and isinstance(ref.scope.node, cst.ClassDef):
            self._instances(ref.scope.node)
        for node, _ in self._nodes.get(ref, ()):
            parent = self.tree.parents[node]
            is_inner = isinstance(parent, cst.Attribute) and parent.attr.value == "module"
            if is_inner or self._is_target(node):
                continue
            if is_module:
                self._module(node)
            else:
                self._part(node)

    def _instances(self, definition: cst.ClassDef) -> None:
        """An object that holds the module may be wrapped as a whole, where its base class says what it is."""
        if any(dotted_name(base.value) != "object" for base in definition.bases):
            self._escape(definition)
        for call, scope in self.tree.calls:
            if self.script.class_of(call, scope) is definition:
                self._climb(call)

    def _is_target(self, node: cst.CSTNode) -> bool:
        child = node
        for parent in self.tree.ancestors(node):
            if isinstance(parent, cst.AssignTarget | cst.NameItem | cst.Del | cst.Param | cst.AsName):
                return True
            if isinstance(parent, cst.AnnAssign | cst.AugAssign | cst.For | cst.CompFor | cst.NamedExpr):
                return parent.target is child
            if not isinstance(parent, cst.Element | cst.Tuple | cst.List):
                return False
            child = parent
        return False

    def _escape(self, node: cst.CSTNode, names: Iterable[str] | None = None) -> None:
        found = None if names is None else frozenset(names)
        self.escapes.append(Escape(node, found, self.script.on_one_rank(node)))

    # --- the module itself ------------------------------------------------------------------------------------

    def _module(self, node: cst.CSTNode) -> None:
        parent = self.tree.parents[node]
        if not isinstance(parent, cst.Attribute) or parent.value is not node:
            self._module_goes(node)
            return
        name = parent.attr.value
        call = self.tree.parents[parent]
        if name in ACCESS:
            self._climb(call if isinstance(call, cst.Call) else parent)
        elif HOOK.search(name) or EXCHANGES.search(name):
            self._escape(node)
        elif LOADS.search(name):
            self.loaded.append(node)
        elif name in STAYS and isinstance(call, cst.Call) and call.func is parent:
            self._module_goes(call)
        elif name in SAVES:
            self.saved.append(node)

    def _module_goes(self, node: cst.CSTNode) -> None:
        """The module as a value: where does it go from this expression?"""
        parent = self.tree.parents[node]
        match parent:
            case cst.Arg():
                call = self.tree.parents[parent]
                if isinstance(call, cst.Call):
                    self._argument(parent, call, is_module=True)
            case cst.Call():
                self.called.append(node)
            case cst.Attribute():
                self._module(node)
            case cst.Assign() | cst.AnnAssign() | cst.NamedExpr():
                self._assigned(parent, is_module=True)
                if isinstance(parent, cst.NamedExpr):
                    self._module_goes(parent)
            case cst.IfExp() if parent.test is not node:
                self._module_goes(parent)
            case cst.BooleanOperation():
                self._module_goes(parent)
            case _:
                if not self._is_looked_at(node, parent):
                    self._climb(node)

    def _is_looked_at(self, node: cst.CSTNode, parent: cst.CSTNode) -> bool:
        """Tested, compared, printed or thrown away."""
        looks = (
            cst.Comparison | cst.ComparisonTarget | cst.Expr | cst.Assert | cst.FormattedStringExpression | cst.CompIf
        )
        if isinstance(parent, cst.If | cst.While | cst.IfExp):
            return parent.test is node
        is_not = isinstance(parent, cst.UnaryOperation) and isinstance(parent.operator, cst.Not)
        return is_not or isinstance(parent, looks)

    def _assigned(
        self, statement: cst.Assign | cst.AnnAssign | cst.AugAssign | cst.NamedExpr, *, is_module: bool
    ) -> None:
        targets = (
            [item.target for item in statement.targets] if isinstance(statement, cst.Assign) else [statement.target]
        )
        scope = self.tree.scopes[statement]
        for target in targets:
            if isinstance(target, cst.Tuple | cst.List):
                self._bound(target, scope)
            elif (
                isinstance(target, cst.BaseExpression) and (ref := self.script.follower.ref(target, scope)) is not None
            ):
                self._waiting.append((ref, is_module))
            elif not self._is_known_place(target):
                self._escape(statement)

    def _is_known_place(self, target: cst.CSTNode) -> bool:
        """`group["lr"]`, `parameter.grad`: a part of something that is followed anyway."""
        while isinstance(target, cst.Attribute | cst.Subscript):
            target = target.value
            scope = self.tree.scopes[target]
            ref = self.script.follower.ref(target, scope) if isinstance(target, cst.BaseExpression) else None
            if ref in self._parts or (ref is not None and isinstance(self.tree.parents[target], cst.Subscript)):
                if ref is not None and ref not in self._parts:
                    self._waiting.append((ref, False))
                return True
        return False

    def _bound(self, target: cst.CSTNode, scope: Scope) -> None:
        """Names that a loop or an unpacking gives parts to."""
        if isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                self._bound(element.value, scope)
        elif isinstance(target, cst.BaseExpression) and (ref := self.script.follower.ref(target, scope)) is not None:
            self._waiting.append((ref, False))

    def _argument(self, argument: cst.Arg, call: cst.Call, *, is_module: bool) -> None:
        if call in self._loss or self._runs_alone(call):
            return
        name = last_name(call.func)
        wrapper = UNSUPPORTED.get(name)
        if wrapper == "DeepSpeed" and not (dotted_name(call.func) or "").startswith("deepspeed"):
            wrapper = None
        if (is_module and name in DDP) or wrapper is not None:
            self.wrapped.append(call)
        elif is_module and name == "getattr":
            self._module_goes(call)  # getattr(model, "module", model)
        elif (ref := self.script.parameter(call, argument)) is not None:
            self._waiting.append((ref, is_module))
            if self.script.class_of(call, self.tree.scopes[call]) is not None:
                self._climb(call)
        elif call in self.script.callees:
            self._escape(call)
        elif EXCHANGES.search(name) or self._is_of_distributed(call):
            self.exchanged.append(call)
        elif name in SAVES:
            self.saved.append(call)
        elif name in PASSES_ON or (not is_module and self._is_of_torch(call)):
            self._climb(call)
        elif name in GROWS and isinstance(call.func, cst.Attribute):
            ref = self.script.follower.ref(call.func.value, self.tree.scopes[call])
            if ref is None:
                self._escape(call)
            else:
                self._waiting.append((ref, False))
        elif name in HARMLESS or SCHEDULER.search(name) or (not is_module and OPTIMISER.search(name)):
            if not is_module and OPTIMISER.search(name) and not SCHEDULER.search(name):
                self.optimised.append(call)
                self._climb(call)
        else:
            self._handed_out(call, name, is_module)

    def _runs_alone(self, call: cst.Call) -> bool:
        """In the other branch of `... if dist.is_initialized() else ...`, where there are no other ranks."""
        child: cst.CSTNode = call
        for ancestor in self.tree.ancestors(call):
            if isinstance(ancestor, cst.FunctionDef):
                return False
            is_other = isinstance(ancestor, cst.IfExp) and ancestor.orelse is child
            test = ancestor.test if is_other and isinstance(ancestor, cst.IfExp) else None
            if isinstance(test, cst.Call) and last_name(test.func) == "is_initialized":
                return True
            child = ancestor
        return False

    def _is_of_distributed(self, call: cst.Call) -> bool:
        """`dist.reduce`, `dist.gather` and whatever else that module holds."""
        return re.match(r"(dist|torch\.distributed|c10d|hvd)\.", dotted_name(call.func) or "") is not None

    def _is_of_torch(self, call: cst.Call) -> bool:
        name = dotted_name(call.func) or ""
        return name.startswith("torch.") and not re.match(r"torch\.(distributed|nn|optim|save|jit)\b", name)

    def _handed_out(self, call: cst.Call, name: str, is_module: bool) -> None:
        if is_module:
            self.handed.append(call)
        target = self.script.neighbours.resolve(call.func, self.tree.scopes[call])
        names = target.names_used if target is not None else None
        if names is None and SIBLING.fullmatch(name):
            names = set()  # the losses that come with the public energy model
        self._escape(call, names)
        if name[:1].isupper():
            self._climb(call)  # an object that holds the module

    # --- its parameters, and whatever holds them ---------------------------------------------------------------

    def _part(self, node: cst.CSTNode) -> None:
        self._climb(node)

    def _climb(self, node: cst.CSTNode) -> None:
        """Parameters, or something that holds them, as a value: where does it go from this expression?"""
        if node in self._climbed:
            return
        self._climbed.add(node)
        parent = self.tree.parents[node]
        match parent:
            case cst.Attribute():
                self._attribute(parent)
            case cst.Call():
                return  # called: a loaded object, a scheduler; arguments are looked at on their own
            case cst.Arg():
                call = self.tree.parents[parent]
                if isinstance(call, cst.Call):
                    self._argument(parent, call, is_module=False)
            case cst.For() if parent.iter is node:
                self._bound(parent.target, self.tree.scopes[parent])
            case cst.CompFor() if parent.iter is node:
                self._bound(parent.target, self.tree.scopes[parent])
            case cst.Assign() | cst.AnnAssign() | cst.AugAssign():
                self._assigned(parent, is_module=False)
            case cst.NamedExpr():
                self._assigned(parent, is_module=False)
                self._climb(parent)
            case cst.Element() | cst.StarredElement() | cst.DictElement() | cst.StarredDictElement():
                self._climb(self.tree.parents[parent])
            case cst.Subscript() if parent.value is node:
                if not self._is_target(parent):
                    self._climb(parent)
            case cst.Index() | cst.Slice():
                return
            case cst.BinaryOperation() | cst.BooleanOperation():
                self._climb(parent)
            case cst.IfExp() if parent.test is not node:
                self._climb(parent)
            case cst.UnaryOperation() if not isinstance(parent.operator, cst.Not):
                self._climb(parent)
            case cst.Return():
                self._returned(parent)
            case _ if isinstance(parent, Comprehension):
                self._climb(parent)
            case _:
                if not self._is_looked_at(node, parent):
                    self._escape(node)

    def _attribute(self, attribute: cst.Attribute) -> None:
        name = attribute.attr.value
        parent = self.tree.parents[attribute]
        is_called = isinstance(parent, cst.Call) and parent.func is attribute
        if HOOK.search(name) or EXCHANGES.search(name):
            self._escape(attribute)
        elif LOADS.search(name):
            self.loaded.append(attribute)
        elif name in NUMBERS or self._is_target(attribute):
            return
        else:
            self._climb(parent if is_called else attribute)

    def _returned(self, statement: cst.Return) -> None:
        function = self.script.function_around(statement)
        if function is None:
            return
        calls, mentions = self.script.values.callers.uses_of_function(function)
        for mention in mentions:
            self._escape(mention)
        for call, _ in calls:
            self._climb(call)


def silent_exchanges(script: Script) -> list[cst.CSTNode]:
    """Calls without arguments that by their name may make ranks agree: on what, cannot be read."""
    return [
        call
        for call, _ in script.tree.calls
        if not [argument for argument in call.args if not is_none(argument.value)]
        and EXCHANGES.search(name := last_name(call.func))
        and name not in ("no_sync", "prepare")
        and call not in script.callees
    ]
