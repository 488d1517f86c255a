"""Which conditions ask on which rank they run, by the field's names for ranks; nothing is proven."""

from __future__ import annotations

import re
from collections.abc import Iterable

import libcst as cst

from energy_patch.locate.callers import Callers, first_parameter
from energy_patch.locate.plain_values import PlainValues
from energy_patch.syntax.nodes import called_name, descendants, dotted_name, is_target, last_name
from energy_patch.syntax.tree import Tree

# What tells ranks apart, as a name or an attribute; `lora_rank` and the like are something else, and `main`, `master`
# and `primary` by themselves may be anything.
RANK_NAME = re.compile(
    r"(?:(?:global_|local_|node_|world_|process_|ddp_)?rank|(?:local_)?process_index|local_id"
    r"|(?!(?:main|master|primary)$)(?:is_)?(?:local_|world_|global_)?(?:main|master|primary)(?:_process|_rank|_node)?"
    r"|is_(?:global_|local_|world_)?(?:rank_?)?zero|is_(?:rank_?0|first_(?:process|rank))"
    r"|get_(?:global_|local_|node_)?rank)",
    re.IGNORECASE,
)
# The number of a device is a rank only where it is compared with a number: `if args.gpu:` asks for a GPU.
DEVICE_NAME = re.compile(r"gpu(?:_id)?|device_id", re.IGNORECASE)
RANK_VARIABLE = re.compile(
    r"['\"](?:(?:LOCAL_|GLOBAL_|NODE_)?RANK|SLURM_(?:PROC|LOCAL)ID|OMPI_COMM_WORLD_(?:LOCAL_)?RANK)['\"]"
)
WORLD_SIZE = re.compile(r"(?:get_)?world_size|num_processes|nprocs")
# Decorators that run a function on the first rank only.
ONE_RANK_DECORATORS = frozenset(
    {"rank_zero_only", "on_main_process", "on_local_main_process", "main_process_only", "master_only"}
)
_ASSIGNMENTS = (cst.Assign, cst.AnnAssign, cst.NamedExpr)


class RankTests:
    """Answers about the conditions of one tree."""

    def __init__(self, tree: Tree, callers: Callers) -> None:
        self._tree = tree
        self._callers = callers
        self._plain = PlainValues(tree, callers)

    def tells_ranks_apart(self, test: cst.BaseExpression, seen: frozenset[cst.CSTNode] = frozenset()) -> bool:
        """Whether a condition may hold on one rank and not on another, as far as it names the rank."""
        match test:
            case cst.BooleanOperation():
                return self.tells_ranks_apart(test.left, seen) or self.tells_ranks_apart(test.right, seen)
            case cst.UnaryOperation():
                return self.tells_ranks_apart(test.expression, seen)
            case cst.Comparison():
                return not _is_same_on_all_ranks(test) and self._compares_rank(test, seen)
            case cst.NamedExpr():
                return self.tells_ranks_apart(test.value, seen)
            case cst.Call(func=cst.Name(value="bool" | "int"), args=[argument]):
                return self.is_rank(argument.value, seen)
            case cst.Call() if not RANK_NAME.fullmatch(called_name(test)):
                if any(self._is_named_rank(argument.value) for argument in test.args):
                    return True
                return any(self.tells_ranks_apart(value, inner) for value, inner in self._returned(test, seen))
        if self._is_named_rank(test):
            return True
        return any(self.tells_ranks_apart(value, inner) for value, inner in self._values(test, seen))

    def is_rank(self, node: cst.BaseExpression, seen: frozenset[cst.CSTNode] = frozenset()) -> bool:
        """Whether an expression is a rank, or a number made of one."""
        if self._is_named_rank(node) or _is_environment_rank(node):
            return True
        match node:
            case cst.BinaryOperation() | cst.BooleanOperation():
                return self.is_rank(node.left, seen) or self.is_rank(node.right, seen)
            case cst.IfExp():
                return self.is_rank(node.body, seen) or self.is_rank(node.orelse, seen)
            case cst.NamedExpr():
                return self.is_rank(node.value, seen)
            case cst.Call(func=cst.Name(value="int" | "str"), args=[argument]):
                return self.is_rank(argument.value, seen)
        return any(self.is_rank(value, inner) for value, inner in self._values(node, seen))

    def _compares_rank(self, test: cst.Comparison, seen: frozenset[cst.CSTNode]) -> bool:
        parts = _parts(test)
        if any(_is_text(part) for part in parts):
            parts = [part for part in parts if not DEVICE_NAME.fullmatch(last_name(part))]
        with_number = any(isinstance(part, cst.Integer) for part in parts)
        return any(
            self.is_rank(part, seen) or (with_number and self._holds_device(part)) or self._is_flag(part, seen)
            for part in parts
        )

    def _is_flag(self, part: cst.BaseExpression, seen: frozenset[cst.CSTNode]) -> bool:
        """`zero == True`, `(rank == 0) is False`."""
        return isinstance(part, cst.Comparison | cst.Name | cst.Attribute) and self.tells_ranks_apart(part, seen)

    def _values(
        self, node: cst.BaseExpression, seen: frozenset[cst.CSTNode]
    ) -> Iterable[tuple[cst.BaseExpression, frozenset[cst.CSTNode]]]:
        """What a name, a parameter or an attribute of `self` is given in this file."""
        scope = self._tree.scopes.get(node)
        if scope is None or not isinstance(node, cst.Name | cst.Attribute):
            return []
        name = dotted_name(node) or ""
        values: list[cst.BaseExpression | None] = []
        if isinstance(node, cst.Name):
            bindings = scope.resolve(name)
            values = [item.value for item in bindings if isinstance(item.node, _ASSIGNMENTS)]
            for item in bindings:
                if isinstance(item.node, cst.Param) and (function := self._function_of(item.node)) is not None:
                    values += [value for value, _ in self._callers.passed(function, name)]
        elif (
            owner := scope.enclosing_class()
        ) is not None and name == f"{first_parameter(scope.function())}.{node.attr.value}":
            values = [value for value, _ in self._callers.self_attributes(owner).get(node.attr.value, [])]
        return [(value, seen | {value}) for value in values if value is not None and value not in seen]

    def _returned(
        self, call: cst.Call, seen: frozenset[cst.CSTNode]
    ) -> Iterable[tuple[cst.BaseExpression, frozenset[cst.CSTNode]]]:
        """What a function of this file returns."""
        for binding in self._tree.scopes[call].resolve(dotted_name(call.func) or ""):
            if isinstance(binding.node, cst.FunctionDef):
                for node in descendants(binding.node.body):
                    if isinstance(node, cst.Return) and node.value is not None and node.value not in seen:
                        yield node.value, seen | {node.value}

    def _function_of(self, parameter: cst.Param) -> cst.FunctionDef | None:
        return next((node for node in self._tree.ancestors(parameter) if isinstance(node, cst.FunctionDef)), None)

    def _is_named_rank(self, node: cst.BaseExpression) -> bool:
        """Whether an expression has a rank's name, and nothing in this file shows that it is something else."""
        return (
            bool(RANK_NAME.fullmatch(called_name(node)))
            and "lora" not in (dotted_name(node) or "").lower()  # `cfg.lora.rank` is the rank of a matrix
            and not any("lora" in text.lower() for text in self._options(node))
            and not self._plain.is_plain(node)
        )

    def _holds_device(self, node: cst.BaseExpression) -> bool:
        """Whether an expression is the number of this rank's device; an option has the same value on all ranks."""
        parts = [node.left, node.right] if isinstance(node, cst.BinaryOperation) else [node]
        named = [part for part in parts if DEVICE_NAME.fullmatch(last_name(part))]
        return any(not self._options(part) or self._is_set(part) for part in named)

    def _options(self, node: cst.BaseExpression) -> list[str]:
        """The calls that define the option of a command line which an attribute holds, as they are written."""
        if not isinstance(node, cst.Attribute):
            return []
        flags = {f"--{node.attr.value}", f"--{node.attr.value.replace('_', '-')}"}
        return [
            self._tree.text(call)
            for call, _ in self._tree.calls
            if called_name(call) == "add_argument"
            and any(isinstance(item.value, cst.SimpleString) and item.value.raw_value in flags for item in call.args)
        ]

    def _is_set(self, option: cst.BaseExpression) -> bool:
        """Whether an option gets a value by rank: here, or in `init_distributed_mode(args)` and the like."""
        owner = (dotted_name(option) or "").rpartition(".")[0]
        nodes = (node for node, _ in self._tree.attributes if node.attr.value == last_name(option))
        return any(is_target(node, self._tree.ancestors(node)) for node in nodes) or any(
            "dist" in called_name(call) and dotted_name(argument.value) == owner
            for call, _ in self._tree.calls
            for argument in call.args
        )


def runs_on_one_rank(function: cst.FunctionDef) -> bool:
    """Whether a decorator keeps a function from running on the other ranks."""
    return any(called_name(item.decorator) in ONE_RANK_DECORATORS for item in function.decorators)


def _parts(test: cst.Comparison) -> list[cst.BaseExpression]:
    return [test.left, *(item.comparator for item in test.comparisons)]


def _is_same_on_all_ranks(test: cst.Comparison) -> bool:
    """`rank != -1`, `rank is None`, `rank >= 0`, `rank < world_size`, `"RANK" in os.environ`: the same on all.

    And `rank > world_size - 1`.
    """
    if any(_is_no_rank(part) for part in _parts(test)):
        return True
    left, operators = test.left, [item.operator for item in test.comparisons]
    for operator, right in zip(operators, _parts(test)[1:], strict=True):
        match operator:
            case cst.In() | cst.NotIn():
                is_same = _is_text(left)
            case cst.GreaterThanEqual() | cst.LessThan():
                is_same = _is_zero(right) or _is_world_size(right) or _is_last_rank(left)
            case cst.LessThanEqual() | cst.GreaterThan():
                is_same = _is_zero(left) or _is_world_size(left) or _is_last_rank(right)
            case _:
                is_same = False
        if not is_same:
            return False
        left = right
    return True


def _is_no_rank(node: cst.BaseExpression) -> bool:
    is_negative = isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus)
    return is_negative or (isinstance(node, cst.Name) and node.value == "None")


def _is_zero(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer) and node.value == "0"


def _is_text(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.SimpleString) and not str(node.raw_value).isdecimal()


def _is_world_size(node: cst.BaseExpression) -> bool:
    return bool(WORLD_SIZE.fullmatch(called_name(node)))


def _is_last_rank(node: cst.BaseExpression) -> bool:
    """`world_size - 1`."""
    match node:
        case cst.BinaryOperation(operator=cst.Subtract(), right=cst.Integer(value="1")):
            return _is_world_size(node.left)
    return False


def _is_environment_rank(node: cst.BaseExpression) -> bool:
    """`os.environ["RANK"]`, `os.environ.get("RANK", 0)`, `os.getenv("RANK")`."""
    match node:
        case cst.Subscript(slice=[cst.SubscriptElement(slice=cst.Index(value=cst.SimpleString(value=key)))]):
            return bool(RANK_VARIABLE.fullmatch(key)) and last_name(node.value) == "environ"
        case cst.Call(args=[cst.Arg(value=cst.SimpleString(value=key)), *_]):
            return bool(RANK_VARIABLE.fullmatch(key)) and called_name(node) in ("get", "getenv")
    return False
