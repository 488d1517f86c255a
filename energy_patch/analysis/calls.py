"""The call graph of a program: what each call means, who calls a function, and what becomes of each argument."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.files import ScopedCall
from energy_patch.analysis.program import Program
from energy_patch.syntax.nodes import all_parameters, descendants, last_name
from energy_patch.syntax.scopes import Scope


class CallGraph:
    """Every call of the program whose callee is in sight; a class stands for its `__init__`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.callee: dict[cst.Call, cst.FunctionDef] = {}
        self.made: dict[cst.Call, cst.ClassDef] = {}
        self._callers: dict[cst.FunctionDef, list[ScopedCall]] = {}
        place = 0
        while place < len(program.calls):  # asking what a call means may bring in another file
            call, scope = program.calls[place]
            place += 1
            meaning = program.meaning(call.func, scope)
            if isinstance(meaning, cst.ClassDef):
                self.made[call] = meaning
                meaning = program.method(meaning, "__init__")
            if isinstance(meaning, cst.FunctionDef):
                self.callee[call] = meaning
                self._callers.setdefault(meaning, []).append((call, scope))

    def callers(self, function: cst.FunctionDef) -> list[ScopedCall]:
        return self._callers.get(function, [])

    def takes_self(self, function: cst.FunctionDef) -> bool:
        """Whether a call fills the first parameter by itself."""
        is_static = "staticmethod" in {last_name(item.decorator) for item in function.decorators}
        return self.program.scopes[function].is_class and not is_static

    def bound(self, call: cst.Call, function: cst.FunctionDef | None = None) -> Iterator[tuple[str, cst.Arg]]:
        """The parameters that a call's arguments become, up to the first that cannot be told.

        `function` is what is called, where the graph cannot know it.
        """
        function = function or self.callee[call]
        names = [item.name.value for item in [*function.params.posonly_params, *function.params.params]]
        names = names[1:] if self.takes_self(function) else names
        known = {item.name.value for item in all_parameters(function.params)}
        is_plain = True
        for place, argument in enumerate(call.args):
            is_plain = is_plain and not argument.star
            if argument.keyword is not None:
                if argument.keyword.value in known:
                    yield argument.keyword.value, argument
            elif is_plain and place < len(names):
                yield names[place], argument

    def argument(self, call: cst.Call, name: str) -> cst.BaseExpression | None:
        """What a call passes for one parameter; None where it is left out or cannot be told."""
        return next((item.value for parameter, item in self.bound(call) if parameter == name), None)

    def passed(self, function: cst.FunctionDef, name: str) -> list[tuple[cst.BaseExpression, Scope]]:
        """What each call of a function passes for a parameter, left-out ones aside."""
        found = [(self.argument(call, name), scope) for call, scope in self.callers(function)]
        return [(value, scope) for value, scope in found if value is not None]

    def names_below(self, definition: cst.FunctionDef | cst.ClassDef) -> set[str]:
        """Every identifier in a definition, and in the functions in sight that it calls."""
        names: set[str] = set()
        waiting: list[cst.CSTNode] = [definition]
        reached: set[cst.CSTNode] = {definition}
        while waiting:
            for node in descendants(waiting.pop()):
                if isinstance(node, cst.Name):
                    names.add(node.value)
                callee = self.callee.get(node) if isinstance(node, cst.Call) else None
                if callee is not None and callee not in reached:
                    reached.add(callee)
                    waiting.append(callee)
        return names
