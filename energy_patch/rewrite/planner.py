"""Facts and a strategy make a Plan: edits, files and notes, nothing written yet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from energy_patch.locate.facts import (
    ORIGINAL_LOSS,
    ORIGINAL_PARAMETERS,
    ORIGINAL_TAU,
    Argument,
    Call,
    Caller,
    ConfigField,
    Facts,
    Function,
    listed,
)
from energy_patch.refusal import Refusal, renumbered
from energy_patch.rewrite.edits import Edit, apply_edits, invert_edits
from energy_patch.rewrite.insertions import append_items, insert_item, line_edit, replace_default
from energy_patch.rewrite.logging_edits import LATEST_METRICS, logging_edits
from energy_patch.strategies.base import TAU, Choice, Option, Strategy
from energy_patch.strategies.base import Value as Value
from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.source import LINE_END, Source, check_compiles, decode_source

DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
WORLD_SIZE = "{0}.get_world_size() if {0}.is_initialized() else 1"


@dataclass(frozen=True)
class PlannedEdit:
    """One edit and what it does, in words for a person.

    `tunable` marks an edit whose value (a config field's default, a literal at the call) the user may change
    afterwards without the patch ceasing to be ours; `holds` maps names in it to the options that they are the value of.
    """

    edit: Edit
    title: str
    tunable: bool = False
    holds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All that `apply` will do to one script.

    `options` are those that were given, to be recorded; `names` are the identifiers that the patch brings into the
    script; `modules` are file names in `templates/energy_losses/`.
    """

    source: Source
    strategy: str
    options: dict[str, Value]
    edits: tuple[PlannedEdit, ...]
    modules: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def patched_text(self) -> str:
        return apply_edits(self.source.text, [planned.edit for planned in self.edits])


def make_plan(
    facts: Facts,
    strategy: Strategy,
    choice: Choice,
    recorded: dict[str, Value],
    *,
    synchronise: bool,
    logs: bool = False,
) -> Plan:
    """Decide every edit for one script; `recorded` is what to remember of the options.

    Raises:
        Refusal: the script cannot be patched so; nothing was written.
    """
    planner = _Planner(facts, strategy, choice, replicates=synchronise)
    planner.patch_calls()
    if logs:
        planner.log_metrics()
    planner.set_defaults()
    planner.add_fields()
    planner.add_imports()
    return planner.plan(recorded)


def prove(plan: Plan) -> bytes:
    """The patched bytes, after showing that they can be taken back exactly and that Python accepts them.

    Raises:
        Refusal: `unsupported`, if either fails; that is a fault of energy-patch, said so.
    """
    source = plan.source
    patched = plan.patched_text
    try:
        raw = source.encode(patched)
    except UnicodeEncodeError:
        message = f"the script's encoding ({source.encoding}) cannot hold the patch; save it as UTF-8"
        raise Refusal("unsupported", message) from None
    result = decode_source(source.path, raw)
    inverse = invert_edits(source.text, [planned.edit for planned in plan.edits])
    if result.text != patched or source.encode(apply_edits(result.text, inverse)) != source.raw:
        raise Refusal("unsupported", "the patch could not be proven reversible here; please report the script")
    try:
        check_compiles(result)
    except Refusal as refusal:
        message = f"the patched script would not compile ({refusal.message}); please report the script"
        raise Refusal("unsupported", message, line=refusal.line) from None
    return raw


@dataclass
class _Planner:
    facts: Facts
    strategy: Strategy
    choice: Choice
    edits: list[PlannedEdit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    imports: dict[str, set[str]] = field(default_factory=dict)
    new_fields: dict[str, tuple[Option, str]] = field(default_factory=dict)
    threaded: dict[int, dict[str, tuple[str, str]]] = field(default_factory=dict)
    distributed_import: str | None = None
    counted: list[Call] = field(default_factory=list)
    replicates: bool = True
    replicated: list[tuple[Call, str]] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.facts.source

    def plan(self, recorded: dict[str, Value]) -> Plan:
        modules = {f"{module.rpartition('.')[2]}.py" for module in self.imports}
        return Plan(
            source=self.source,
            strategy=self.strategy.name,
            options=recorded,
            edits=tuple(sorted(self.edits, key=_place)),
            modules=tuple(sorted(modules)),
            names=tuple(sorted(self.names)),
            notes=tuple(renumbered(note, self._line_after) for note in self.notes),
        )

    def _line_after(self, line: int) -> int:
        """The line in the patched script of a line of the original."""
        offset = self.source.line_starts[line - 1]
        before = [planned.edit for planned in self.edits if planned.edit.start <= offset and planned.edit.end <= offset]
        replaced = (LINE_END.findall(self.source.text, edit.start, edit.end) for edit in before)
        return line + sum(len(LINE_END.findall(edit.text)) for edit in before) - sum(map(len, replaced))

    def add(self, edit: Edit, title: str, *, tunable: bool = False, holds: Mapping[str, str] | None = None) -> None:
        self.edits.append(PlannedEdit(edit, title, tunable, holds or {}))

    # --- the calls of the loss

    def patch_calls(self) -> None:
        for call in self.facts.calls:
            self._patch_call(call)
        functions = {call.enclosing.line: call.enclosing for call in self.facts.calls if call.enclosing is not None}
        for line, parameters in self.threaded.items():
            self._thread(functions[line], parameters)
        if not self.replicates:
            self.notes.append(
                "--no-sync: the ranks train separate energy models, unless something else averages their gradients"
            )
        self.notes += [
            f"warning, line {item.line}: {item.what} on one rank alone, and the other ranks then wait for it; "
            "take the decision on all ranks together"
            for item in self.facts.warnings
        ]

    def _patch_call(self, call: Call) -> None:
        self._check_ranks(call)
        bound = call.bound()
        inner = self._replicated(call, bound["energy_model"]) if self.replicates else []
        title, is_literal = "the ranks' energy models are kept equal", False
        if self.strategy.function:
            replaced, is_literal = self._replaced(call, bound)
            inner += replaced
            title = f"call {self.strategy.function} instead of {ORIGINAL_LOSS}"
        if inner:
            start, end = call.function.start, call.arguments.close + 1
            shifted = [Edit(edit.start - start, edit.end - start, edit.text) for edit in inner]
            text = apply_edits(self.source.text[start:end], shifted)
            holds = {option.keyword: option.name for option in self.strategy.options if option.kind == "field"}
            self.add(Edit(start, end, text), title, tunable=is_literal, holds=holds if is_literal else None)

    def _check_ranks(self, call: Call) -> None:
        if call.rank_lines and (self.strategy.function or self.replicates):
            message = (
                f"the loss on line {call.line} is computed only where a condition on the rank holds, but after the "
                "patch the ranks exchange what they have and would wait for each other for ever; compute the loss on "
                "every rank, or under torch.no_grad()"
            )
            raise Refusal("unsupported", message, line=call.rank_lines[0])

    def _replicated(self, call: Call, model: Argument) -> list[Edit]:
        """Keep the ranks one model: a line before the call, and before what else uses the model on the way to it.

        Where no line can stand, it goes around the call's first argument.
        """
        function = self._imported("ranks", "replicate")
        start = call.before.offset if call.before is not None and not call.is_conditional else call.function.start
        is_bound_between = any(start <= at < call.function.start for at in call.model_bound)
        if start == call.function.start or is_bound_between or not DOTTED_NAME.fullmatch(model.value):
            end = model.span.end
            return [Edit(end - len(model.value), end - len(model.value), f"{function}("), Edit(end, end, ")")]
        if not any(self._covers(other, call) for other, name in self.replicated if name == model.value):
            assert call.before_model is not None
            self.replicated.append((call, model.value))
            line = f"{function}({model.value})"
            self.add(line_edit(self.source, call.before_model, [line]), "the ranks' energy models are kept equal")
        return []

    @staticmethod
    def _is_after(other: Call, call: Call) -> bool:
        """Whether a line before an earlier call has surely run before this one: it stands in a block around it."""
        return other.enclosing is call.enclosing and call.block[-len(other.block) :] == other.block

    def _covers(self, other: Call, call: Call) -> bool:
        """Whether a line before an earlier call serves the model that this one is given."""
        return self._is_after(other, call) and not any(
            other.function.start < at < call.function.start for at in call.model_bound
        )

    def _replaced(self, call: Call, bound: dict[str, Argument]) -> tuple[list[Edit], bool]:
        """Edits that make a call one of the new loss, and whether they leave a literal there."""
        self._check_reduce_steps(call, bound)
        function = self._imported(self.strategy.module, self.strategy.function)
        placed: set[str] = set()
        edits = [Edit(call.function.start, call.function.end, function), *self._rebound(call, bound, placed)]
        keywords = list(self._keywords(call, bound, placed))
        dropped = bound.get("reduce_steps")
        if dropped is None:
            edits += append_items(self.source, call.arguments, keywords)
        else:
            edits.append(Edit(dropped.span.start, dropped.span.end, ", ".join(keywords)))
        return edits, any(keyword.partition("=")[2][:1].isdigit() for keyword in keywords)

    def _check_reduce_steps(self, call: Call, bound: dict[str, Argument]) -> None:
        argument = bound.get("reduce_steps")
        if argument is not None and not argument.is_literal:
            message = (
                f"the call passes reduce_steps={argument.value}, which {ORIGINAL_LOSS} never used and the new loss "
                "does not have; remove it from the call and run again"
            )
            raise Refusal("unsupported", message, line=call.line)

    def _rebound(self, call: Call, bound: dict[str, Argument], placed: set[str]) -> Iterator[Edit]:
        """Edits that hand the original's arguments over under the new loss's names and in its order.

        New parameters that come between them are put in their place and noted in `placed`.
        """
        positional = self.strategy.positional
        place = 0
        for name in ORIGINAL_PARAMETERS[:-1]:
            argument = bound.get(name)
            if argument is None:
                continue
            new_name = self.strategy.renamed.get(name, name)
            start = argument.span.start
            if argument.name is not None:
                if new_name != name:
                    yield Edit(start, start + len(name), new_name)
                continue
            while place < len(positional) and (option := self._variable(positional[place])) is not None:
                place += 1
                placed.add(option.keyword)
                yield insert_item(self.source, call.arguments, argument, self._variable_name(call, option))
            if place < len(positional) and positional[place] == new_name:
                place += 1
            else:
                place = len(positional)
                yield Edit(start, start, f"{new_name}=")

    def _variable(self, parameter: str) -> Option | None:
        return next(
            (item for item in self.strategy.options if item.kind == "variable" and item.keyword == parameter), None
        )

    def _variable_name(self, call: Call, option: Option) -> str:
        name = str(self.choice.value(option))
        if name not in call.in_scope:
            message = (
                f"strategy {self.strategy.name} needs {option.keyword}, and no variable {name} has a value above this "
                f"call; name the one that holds them with {option.flag} NAME, or take another strategy"
            )
            raise Refusal("not-found", message, line=call.line)
        return name

    def _keywords(self, call: Call, bound: dict[str, Argument], placed: set[str]) -> Iterator[str]:
        for option in self.strategy.options:
            if option.kind == "variable" and option.keyword not in placed:
                yield f"{option.keyword}={self._variable_name(call, option)}"
        if "pad_mask" not in bound and "pad_mask" in self.strategy.renamed:
            yield f"{self.strategy.renamed['pad_mask']}=None"
        for keyword, name in self.strategy.config_values:
            yield f"{keyword}={self._config_value(call, keyword, name)}"
        for option in self.strategy.options:
            value = self._option_value(call, bound, option)
            if value is not None:
                yield f"{option.keyword}={value}"
        if self.strategy.passes_world_size:
            yield f"world_size={self._world_size(call)}"

    def _config_value(self, call: Call, keyword: str, name: str) -> str:
        """A field that the user's config already has, as the call can read it."""
        config = self.facts.config
        callers = call.enclosing.callers if call.enclosing is not None else ()
        in_reach = call.config is not None or (callers and all(caller.config for caller in callers))
        if config is None or config.field(name) is None or not in_reach:
            message = (
                f"strategy {self.strategy.name} decides by the configured {name}, and no config with a field {name} is "
                "in scope here or at every call of this function; take strategy global or layer"
            )
            raise Refusal("not-found", message, line=call.line)
        if call.config is not None:
            return f"{call.config}.{name}"
        return self._parameter(call, name, f"energy_{keyword}", "None")

    def _parameter(self, call: Call, field_name: str, wanted: str, default: str) -> str:
        """The parameter through which the function around a call is handed a config field."""
        assert call.enclosing is not None
        parameters = self.threaded.setdefault(call.enclosing.line, {})
        if field_name not in parameters:
            has_it = call.enclosing.parameter(wanted) is not None
            parameters[field_name] = (wanted if has_it else _free_name(wanted, call.occupied), default)
        return parameters[field_name][0]

    def _option_value(self, call: Call, bound: dict[str, Argument], option: Option) -> str | None:
        """The expression that a call hands to the loss for an option; None where it hands none."""
        if option.kind != "field" or (option.only_when_given and not self.choice.has(option)):
            return None
        if option == TAU and "tau" in bound:
            if option.name in self.choice.asked:
                message = (
                    f"the call already passes tau={bound['tau'].value}, and --tau was given too; leave --tau out, or "
                    "remove tau from the call"
                )
                raise Refusal("conflict", message, line=call.line)
            self.notes.append(f"line {call.line}: the temperature stays {bound['tau'].value}, as the call passes it")
            return None
        if option == TAU and (passed := self._passed_temperature()) is not None:
            self.notes.append(f"line {call.line}: the temperature is {passed}, as another call of the loss passes it")
            return passed
        return self._threaded_value(call, option)

    def _passed_temperature(self) -> str | None:
        """The temperature of the calls that pass one, if it is one number: a run has one temperature."""
        passed = [call.bound().get("tau") for call in self.facts.calls]
        values = {argument.value for argument in passed if argument is not None}
        return next(iter(values)) if len(values) == 1 and all(item.is_literal for item in passed if item) else None

    def _threaded_value(self, call: Call, option: Option) -> str:
        """A config field as the call can read it: directly, through a parameter, or as a literal without a config."""
        text, literal = self.choice.text(option), repr(self.choice.value(option))
        config = self.facts.config
        reachable = call.config is not None or (
            call.enclosing is not None and any(caller.config for caller in call.enclosing.callers)
        )
        if config is None or not reachable:
            self._note_temperature(option, text, "a literal at the call, since no config is in scope")
            return text
        existing = config.field(option.field)
        if existing is None:
            self.new_fields[option.field] = (option, text)
            self._note_temperature(option, text, f"the default of the config field {option.field}")
        else:
            self._reuse(existing, option)
            literal = existing.number or literal
        if call.config is not None:
            return f"{call.config}.{option.field}"
        return self._parameter(call, option.field, option.field, literal)

    def _note_temperature(self, option: Option, literal: str, where: str) -> None:
        if option != TAU:
            return
        text = f"temperature: {ORIGINAL_TAU} as before, now {where}"
        if literal != repr(ORIGINAL_TAU):
            text = f"temperature: {ORIGINAL_TAU} (the original's default) becomes {literal}, {where}"
            text += f"; --tau {ORIGINAL_TAU} keeps the old one"
        if text not in self.notes:
            self.notes.append(text)

    def _reuse(self, existing: ConfigField, option: Option) -> None:
        wanted = {"float": ("float", "int"), "int": ("int",), "str": ("str",)}[type(option.default).__name__]
        if existing.annotation.strip("\"'") not in wanted:
            message = (
                f"the config already has a field {existing.name}: {existing.annotation}, which is no "
                f"{wanted[0]}; give it another name"
            )
            raise Refusal("conflict", message, line=existing.line)
        value = self.choice.value(option)
        if option.name in self.choice.asked and existing.default != repr(value):
            message = (
                f"the config already has {existing.name} = {existing.default}, and {option.flag} {value} was given; "
                f"change the field, or leave {option.flag} out"
            )
            raise Refusal("conflict", message, line=existing.line)
        text = f"line {existing.line}: the config's own field {existing.name} = {existing.default} is used"
        if text not in self.notes:
            self.notes.append(text)

    def _world_size(self, call: Call) -> str:
        expression = WORLD_SIZE.format(self._distributed(call))
        if call.before is None:
            return expression
        name = _free_name("world_size", call.occupied)
        if any(self._is_after(other, call) for other in self.counted):
            return name
        self.counted.append(call)
        self.names.add(name)
        self.add(line_edit(self.source, call.before, [f"{name} = {expression}"]), "get the world size")
        return name

    def _distributed(self, call: Call) -> str:
        """How `torch.distributed` is written at a call; imported under a free name if the script lacks it there."""
        spelling = self.facts.distributed
        if spelling is not None and spelling.split(".")[0] not in call.local_names:
            return spelling
        if self.distributed_import is None:
            self.distributed_import = _free_name("dist", self.facts.identifiers, "torch_distributed")
            self.names.add(self.distributed_import)
        return self.distributed_import

    # --- from the config to the call

    def _thread(self, function: Function, parameters: dict[str, tuple[str, str]]) -> None:
        """Add parameters to a function, and arguments to its calls where a config is in scope."""
        new = {name: item for name, item in parameters.items() if function.parameter(item[0]) is None}
        if new:
            texts = [self._parameter_text(function, name, default) for name, default in new.values()]
            names = listed(name for name, _ in new.values())
            self.names.update(name for name, _ in new.values())
            for edit in append_items(self.source, function.parameters, texts):
                self.add(edit, f"{function.name} takes {names}", tunable=True)
        for caller in function.callers:
            self._pass(function, caller, parameters)
        for line in function.reference_lines:
            self.notes.append(
                f"line {line}: {function.name} is mentioned here without being called; where it is called from there, "
                f"{listed(item[0] + '=' + item[1] for item in parameters.values())} holds"
            )

    def _parameter_text(self, function: Function, name: str, default: str) -> str:
        items = [item for item in function.parameters.items if getattr(item, "default", None) is not None]
        equal = getattr(items[-1], "equal", "=") if items else "="
        named = [item for item in function.parameters.items if item.name not in (None, "self", "cls")]
        if named and all(getattr(item, "annotated", False) for item in named):
            kind = "int | None" if default == "None" else type(ast.literal_eval(default)).__name__
            return f"{name}: {kind} = {default}"
        return f"{name}{equal}{default}"

    def _pass(self, function: Function, caller: Caller, parameters: dict[str, tuple[str, str]]) -> None:
        given = {item.name for item in caller.arguments.items}
        in_reach = caller.config is not None or caller.is_recursive
        missing = {name: item for name, item in parameters.items() if item[0] not in given}
        where = f"line {caller.line}: {caller.within} calls {function.name}"
        for name, default in parameters.values():
            if name in given:
                self.notes.append(f"{where} and passes its own {name}, as before")
            elif not in_reach:
                self.notes.append(f"{where} without a config in scope, so {name}={default} holds there")
        if not missing or not in_reach:
            return
        keywords = [item for item in caller.arguments.items if isinstance(item, Argument) and item.name is not None]
        equal = "="
        if keywords:
            last = keywords[-1]
            after_name = last.span.start + len(last.name or "")
            gap = self.source.text[after_name : last.span.end - len(last.value)]
            equal = gap if gap.strip(" ") == "=" else "="
        values = {name: item[0] if caller.is_recursive else f"{caller.config}.{name}" for name, item in missing.items()}
        texts = [f"{item[0]}{equal}{values[name]}" for name, item in missing.items()]
        for edit in append_items(self.source, caller.arguments, texts):
            self.add(edit, f"{caller.within} passes {listed(texts)}")

    def add_fields(self) -> None:
        config = self.facts.config
        if config is None or not self.new_fields:
            return
        lines = [self._field_line(name, option, value) for name, (option, value) in self.new_fields.items()]
        self.names.update(self.new_fields)
        for line, name in zip(lines, self.new_fields, strict=True):
            title = f"{config.name} gains the field {name}"
            holds = {name: self.new_fields[name][0].name}
            self.add(line_edit(self.source, config.after_fields, [line]), title, tunable=True, holds=holds)

    def _field_line(self, name: str, option: Option, value: str) -> str:
        assert self.facts.config is not None
        code = f"{name}: {type(option.default).__name__} = {value}"
        column = (self.facts.config.comment_column or 0) - len(self.facts.config.after_fields.indent)
        return (
            f"{code.ljust(column)}  # {option.comment}"
            if len(code) + 2 > column
            else f"{code.ljust(column)}# {option.comment}"
        )

    def set_defaults(self) -> None:
        """Change the defaults of the user's own config fields that the strategy names."""
        if self.facts.is_reached:
            return
        replaced: dict[str, str] = {}
        for option in self.strategy.options:
            if option.kind != "default":
                continue
            existing = self.facts.config.field(option.field) if self.facts.config is not None else None
            value = self.choice.text(option)
            if existing is None or existing.value is None or existing.default is None:
                message = (
                    f"strategy {self.strategy.name} sets the default of the config field {option.field}, and no "
                    "config class here has that field with a default; set it where your script does"
                )
                raise Refusal("not-found", message)
            replaced[option.field] = existing.default
            if existing.default != value:
                title = f"the default of {option.field} becomes {value}, it was {existing.default}"
                holds = {option.field: option.name}
                self.add(replace_default(self.source, existing, value), title, tunable=True, holds=holds)
        self.notes += self.strategy.notes(dict(self.choice.values), replaced)

    def log_metrics(self) -> None:
        if self.strategy.function and self.facts.calls:
            for edit, title in logging_edits(self.facts, self._imported("metrics", LATEST_METRICS)):
                self.add(edit, title)

    # --- imports

    def _imported(self, module: str, name: str) -> str:
        """The name to call an imported function by; another one where the script uses its own for something."""
        local = _free_name(name, self.facts.identifiers, f"patched_{name}")
        imported = name if local == name else f"{name} as {local}"
        self.imports.setdefault(f"{self.facts.package}.{module}", set()).add(imported)
        self.names.add(local)
        return local

    def add_imports(self) -> None:
        lines = []
        if self.distributed_import is not None:
            lines.append(("import torch.distributed", f"import torch.distributed as {self.distributed_import}"))
        for module, names in sorted(self.imports.items()):
            listing = sorted(names)
            lines.append((f"import {listed(listing)}", f"from {module} import {', '.join(listing)}"))
        for point in self._import_points():
            for title, line in lines:
                self.add(line_edit(self.source, point, [line]), title)

    def _import_points(self) -> list[LinePoint]:
        """Where imports stand: at the top, or, in a module that others may import too, in each function that calls."""
        if not self.facts.is_reached:
            return [self.facts.imports]
        points: dict[int, LinePoint] = {}
        for call in self.facts.calls:
            if call.body is None:
                message = (
                    "the loss is called where no import can stand beside it, and other programs may load this module; "
                    "put the call into a function with lines of its own"
                )
                raise Refusal("unsupported", message, line=call.line)
            points[call.body.offset] = call.body
        return list(points.values())


def _place(planned: PlannedEdit) -> tuple[int, int, int, bool]:
    """The order of edits; of whole lines at one place, those that end a deeper block first, and imports before use."""
    edit = planned.edit
    line = edit.text.lstrip("\r\n")
    code = line.lstrip(" \t")
    indent = len(line) - len(code) if edit.start == edit.end else 0
    return edit.start, edit.end, -indent, not code.startswith(("import ", "from "))


def _free_name(name: str, taken: frozenset[str], fallback: str = "") -> str:
    """The name itself, or one like it that is not taken."""
    candidates = [name, *([fallback] if fallback else []), f"infonce_{name}"]
    candidates += [f"infonce_{name}_{number}" for number in range(2, 100)]
    return next(candidate for candidate in candidates if candidate not in taken)
