"""Find the loss, the function and the config around it, and the imports, in a script that is only ever read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

import libcst as cst

from energy_patch.files.templates import FOLDER_NAME
from energy_patch.locate.callers import Callers
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.dominance import Order
from energy_patch.locate.facts import (
    ORIGINAL_LOSS,
    ORIGINAL_PARAMETERS,
    Argument,
    Bracketed,
    Call,
    Caller,
    Config,
    ConfigField,
    Facts,
    Function,
    Item,
    LinePoint,
    Parameter,
    Span,
)
from energy_patch.locate.local_modules import local_module
from energy_patch.locate.near_misses import near_misses
from energy_patch.locate.rank_conditions import lone_exits, rank_conditions
from energy_patch.locate.reached import Reached, Read, binds, follow_imports
from energy_patch.refusal import Refusal
from energy_patch.syntax.layout import (
    STATEMENTS,
    comma_end,
    indentation,
    outer_span,
    point_after,
    point_before,
    skip_layout,
    statement_of,
)
from energy_patch.syntax.source import Source, check_compiles
from energy_patch.syntax.tree import Binding, Comprehension, Scope, Tree, all_parameters, deep_trees, dotted_name

BLOCKS = (cst.IndentedBlock, cst.Module)


def locate(script: Source, read: Read) -> tuple[Facts, ...]:
    """The facts of a script and, where it does not call the loss itself, of the local modules it imports that do.

    `read` gives a module's source as it is without a patch.

    Raises:
        Refusal: the loss is not called, or not in a way that can be patched.
    """
    check_compiles(script)  # at Python's own recursion limit: what is nested deeper crashes LibCST's parser
    facts = _facts(script, script) if ORIGINAL_LOSS in script.text else None
    if facts is not None and facts.calls:
        return (facts,)
    following = follow_imports(script, read)
    named = [module for module in following.modules if ORIGINAL_LOSS in module.source.text]
    reached = [_facts_of_module(module, script, following.used) for module in named]
    reached = [item for item in reached if item.calls]
    if not reached:
        unused = [
            f"{_name(module.source.path, script)}, line {call.line}: a call in what this script does not use"
            for module in named
            for call in _facts_of_module(module, script).calls  # a module may also hand the loss on
        ]
        unread = [f"{_name(path, script)}: cannot be read as Python, and was left out" for path in following.unread]
        raise Refusal("not-found", near_misses(script, [*unused, *unread]))
    return (facts or _facts(script, script), *reached)


def _facts_of_module(module: Reached, script: Source, used: frozenset[str] | None = None) -> Facts:
    """A module's facts; a refusal says which file it speaks of."""
    try:
        return _facts(module.source, script, module, used)
    except Refusal as refusal:
        raise refusal.about(_name(module.source.path, script)) from None


def _name(path: Path, script: Source) -> str:
    return path.relative_to(script.path.resolve().parent).as_posix()


def _facts(source: Source, script: Source, reached: Reached | None = None, used: frozenset[str] | None = None) -> Facts:
    """The facts of one file; of a module, only the calls in what the script uses count."""
    with deep_trees():
        return _located(Tree(source, is_checked=True, script=script.path), reached, used)


def _located(tree: Tree, reached: Reached | None, used: frozenset[str] | None) -> Facts:
    all_calls = loss_calls(tree)
    found = [use for use in all_calls if used is None or _top_level_name(tree, use[0]) in {None, *used}]
    if found or used is None:
        _refuse_other_references(tree, all_calls)
    callers = Callers(tree)
    names = ConfigNames(tree, callers, Order(tree), found)
    functions: dict[cst.FunctionDef, Function] = {}
    calls = tuple(_call(tree, callers, names, call, scope, functions) for call, scope in found)
    first = _first_use(tree, calls)
    imports, relative = _import_point(tree, found, first)
    return Facts(
        source=tree.source,
        calls=calls,
        config=None if reached else _config(tree, names),
        imports=imports,
        package=_package(tree, reached, relative),
        distributed=_distributed(tree, first),
        identifiers=_identifiers(tree),
        warnings=lone_exits(tree, callers, found),
        is_reached=reached is not None,
    )


def _top_level_name(tree: Tree, call: cst.Call) -> str | None:
    """The top-level function or class that a call stands in; None where importing the module comes to it."""
    path = [call, *tree.ancestors(call)]
    top = path[-2]
    return top.name.value if isinstance(top, cst.FunctionDef | cst.ClassDef) else None


def _package(tree: Tree, reached: Reached | None, relative: bool) -> str:
    """How `energy_losses/`, which lies beside the script, is named in an import."""
    if reached is None:
        return f".{FOLDER_NAME}" if relative else FOLDER_NAME
    depth = len(tree.source.path.relative_to(tree.script.resolve().parent).parts)
    return f"{'.' * depth}{FOLDER_NAME}" if reached.relative else FOLDER_NAME


def _first_use(tree: Tree, calls: Iterable[Call]) -> int:
    """How many of the module's statements come before the first one that holds a call: imports go there."""
    offsets = [call.function.start for call in calls] or [len(tree.source.text)]
    lines = [tree.first_line(statement) for statement in tree.module.body]
    return max(bisect_right(lines, tree.source.line_of(min(offsets))) - 1, 0)


def loss_calls(tree: Tree) -> list[tuple[cst.Call, Scope]]:
    """The calls that resolve to the original loss."""
    return [(call, scope) for call, scope in tree.calls if _is_loss(tree, call.func, scope)]


def _is_loss(tree: Tree, node: cst.BaseExpression, scope: Scope) -> bool:
    """Whether an expression means the original loss here.

    Raises:
        Refusal: `ambiguous`, where the name may also mean something else.
    """
    name = dotted_name(node)
    if name is None:
        return False
    first, _, rest = name.partition(".")
    if rest and rest.rsplit(".", 1)[-1] != ORIGINAL_LOSS:
        return False
    bindings = scope.resolve(first)
    if not bindings and not rest and first == ORIGINAL_LOSS:
        return _is_star_imported(tree)
    if rest:
        return bool(bindings) and all(binding.kind == "import" for binding in bindings)
    matches = [_binds_loss(tree, binding.node) for binding in bindings]
    if any(matches) and not all(matches):
        other = bindings[matches.index(False)].node
        message = (
            f"{first} is imported and also bound on line {tree.line(other)}, so what the call means depends on the "
            "order of execution; give one of them another name"
        )
        raise Refusal("ambiguous", message, line=tree.line(node))
    return any(matches)


def _is_star_imported(tree: Tree) -> bool:
    """Whether a star import at the top level brings in the loss, as the file that it reads shows."""
    for statement in tree.module.body:
        for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.ImportFrom) and isinstance(part.names, cst.ImportStar):
                module = (dotted_name(part.module) or "") if part.module else ""
                path = local_module(tree.script, module, len(part.relative), importer=tree.source.path)
                if path is not None and binds(path, ORIGINAL_LOSS, tree.script):
                    return True
    return False


def _binds_loss(tree: Tree, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.ImportAlias):
        return dotted_name(node.name) == ORIGINAL_LOSS
    if not isinstance(node, cst.FunctionDef) or node.name.value != ORIGINAL_LOSS:
        return False
    names = tuple(parameter.name.value for parameter in all_parameters(node.params))
    if len(names) < 3 or names != ORIGINAL_PARAMETERS[: len(names)] or node.asynchronous is not None:
        message = (
            f"this {ORIGINAL_LOSS} takes ({', '.join(names)}) instead of ({', '.join(ORIGINAL_PARAMETERS)}), so it is "
            "another function than the one that energy-patch replaces; give it another name, or the original's "
            "parameters"
        )
        raise Refusal("unsupported", message, line=tree.line(node.name))
    return True


def _refuse_other_references(tree: Tree, found: list[tuple[cst.Call, Scope]]) -> None:
    """If one reference cannot be rewritten, none is: a loss that is passed around would keep its local negatives."""
    called = {call.func for call, _ in found}
    nodes: Iterable[tuple[cst.Name | cst.Attribute, Scope]] = [*tree.names, *tree.attributes]
    for node, scope in nodes:
        if node in called or isinstance(tree.parents[node], cst.Attribute | cst.ImportAlias | cst.AssignTarget):
            continue
        if isinstance(tree.parents[node], cst.FunctionDef | cst.AsName | cst.ImportFrom):
            continue
        if _is_loss(tree, node, scope):
            message = (
                f"{dotted_name(node)} is {_use(tree, node)} here, not called, so the patch cannot see what it will be "
                "given; call it directly, or write a function of your own that calls it, and use that here"
            )
            raise Refusal("unsupported", message, line=tree.line(node))


def _use(tree: Tree, node: cst.CSTNode) -> str:
    """What is done with a loss that is not called, in words."""
    parent = tree.parents[node]
    match parent:
        case cst.Arg() if isinstance(around := tree.parents[parent], cst.Call):
            name = dotted_name(around.func)
            return f"handed to {name}()" if name else "handed on"
        case cst.DictElement() | cst.Element():
            return "stored in a collection"
        case cst.Assign() | cst.AnnAssign() | cst.NamedExpr():
            return "given another name"
        case cst.Param():
            return "the default of a parameter"
    return "used"


def _call(
    tree: Tree,
    callers: Callers,
    names: ConfigNames,
    call: cst.Call,
    scope: Scope,
    functions: dict[cst.FunctionDef, Function],
) -> Call:
    start, end = tree.span(call.func)
    around = scope.function()
    definition = around.node if isinstance(around.node, cst.FunctionDef) else None
    if definition is not None and definition not in functions:
        functions[definition] = _function(tree, callers, names, definition, around)
    before, block = _line_before(tree, call)
    return Call(
        line=tree.line(call),
        function=Span(start, end),
        arguments=_arguments(tree, call),
        config=names.expression(scope, call),
        before=before,
        body=_body(tree, definition),
        block=block,
        enclosing=functions[definition] if definition is not None else None,
        occupied=_occupied(tree, around),
        local_names=_local_names(scope),
        in_scope=_in_scope(tree, call, scope),
        is_conditional=_is_conditional(tree, call),
        model_bound=_model_bound(tree, call, scope),
        rank_lines=rank_conditions(tree, callers, call),
    )


def _body(tree: Tree, definition: cst.FunctionDef | None) -> LinePoint | None:
    """Where the first line of a function's body starts, behind its docstring; None where it has no lines of its own."""
    if definition is None or not isinstance(definition.body, cst.IndentedBlock):
        return None
    first, *others = definition.body.body
    return point_before(tree, others[0] if others and _is_docstring(first) else first)


def _is_conditional(tree: Tree, call: cst.Call) -> bool:
    """Whether the statement that holds a call may run without it: `f(m) if m else 0`, `m and f(m)`."""
    child: cst.CSTNode = call
    for ancestor in tree.ancestors(call):
        if isinstance(ancestor, STATEMENTS):
            return False
        if isinstance(ancestor, cst.IfExp) and child is not ancestor.test:
            return True
        if isinstance(ancestor, cst.BooleanOperation) and child is ancestor.right:
            return True
        child = ancestor
    return False


def _model_bound(tree: Tree, call: cst.Call, scope: Scope) -> tuple[int, ...]:
    """Offsets of the bindings of the name that the first argument (or `energy_model=`) starts with."""
    models = [item.value for item in call.args if item.keyword is None or item.keyword.value == ORIGINAL_PARAMETERS[0]]
    first = (dotted_name(models[0]) or "").split(".")[0] if models else ""
    return tuple(tree.span(binding.node)[0] for binding in scope.resolve(first))


def _function(tree: Tree, callers: Callers, names: ConfigNames, node: cst.FunctionDef, inner: Scope) -> Function:
    calls, references = callers.uses_of_function(node)
    if not callers.is_transparent(node):
        # What the decorator made of it may not take one argument more.
        references = [*(call.func for call, _ in calls), *references]
        calls = []
    return Function(
        name=node.name.value,
        line=tree.line(node.name),
        parameters=_parameters(tree, node),
        callers=tuple(_caller(tree, names, call, scope, inner) for call, scope in calls),
        reference_lines=tuple(tree.line(reference) for reference in references),
        bound=frozenset(inner.bindings),
    )


def _caller(tree: Tree, names: ConfigNames, call: cst.Call, scope: Scope, callee: Scope) -> Caller:
    around = scope.function().node
    within = around.name.value if isinstance(around, cst.FunctionDef) else "the module"
    is_recursive = around is callee.node
    return Caller(tree.line(call), within, _arguments(tree, call), names.expression(scope, call), is_recursive)


def _arguments(tree: Tree, call: cst.Call) -> Bracketed:
    text = tree.source.text
    open_ = tree.span(call.func)[1]
    while text[open_] != "(":
        open_ = skip_layout(text, open_ + 1 if text[open_] == ")" else open_)
    close = tree.span(call)[1] - 1
    items = []
    for argument in call.args:
        start, end = tree.span(argument)
        if isinstance(argument.value, cst.GeneratorExp) and not argument.value.lpar:
            message = "this call passes a generator without parentheses of its own; put it in parentheses and run again"
            raise Refusal("unsupported", message, line=tree.line(call))
        items.append(
            Argument(
                Span(start, end),
                comma_end(text, end),
                argument.keyword.value if argument.keyword else None,
                argument.star,
                text[slice(*outer_span(tree, argument.value))],
                isinstance(argument.value, cst.BaseNumber | cst.BaseString)
                or (isinstance(argument.value, cst.Name) and argument.value.value in ("None", "True", "False")),
            )
        )
    return _bracketed(text, open_, close, items)


def _parameters(tree: Tree, node: cst.FunctionDef) -> Bracketed:
    text = tree.source.text
    open_ = skip_layout(text, tree.span(node.name)[1])
    if text[open_] == "[":  # type parameters (PEP 695)
        assert node.type_parameters is not None
        open_ = text.index("]", tree.span(node.type_parameters)[1] - 1) + 1
        open_ = skip_layout(text, open_)
    items: list[Item] = []
    parameters = node.params
    for parameter in all_parameters(parameters):
        if isinstance(parameters.star_arg, cst.ParamStar) and parameter is next(iter(parameters.kwonly_params), None):
            items.append(_separator(text, items, open_, "*"))
        items.append(_parameter(tree, parameter))
        if parameters.posonly_params and parameter is parameters.posonly_params[-1]:
            items.append(_separator(text, items, open_, "/"))
    end = items[-1] if items else None
    close = skip_layout(text, (end.comma_end or end.span.end) if end else open_ + 1)
    return _bracketed(text, open_, close, items)


def _parameter(tree: Tree, parameter: cst.Param) -> Parameter:
    text = tree.source.text
    start = tree.span(parameter)[0]
    last = parameter.default or (parameter.annotation.annotation if parameter.annotation else parameter.name)
    end = outer_span(tree, last)[1]
    default = text[slice(*outer_span(tree, parameter.default))] if parameter.default else None
    equal = "="
    if parameter.default is not None:
        before = parameter.annotation.annotation if parameter.annotation else parameter.name
        gap = text[outer_span(tree, before)[1] : outer_span(tree, parameter.default)[0]]
        equal = gap if gap.strip(" ") == "=" else "="
    return Parameter(
        Span(start, end),
        comma_end(text, end),
        parameter.name.value,
        parameter.star if isinstance(parameter.star, str) else "",
        parameter.annotation is not None,
        default,
        equal,
    )


def _separator(text: str, items: list[Item], open_: int, sign: str) -> Item:
    previous = items[-1] if items else None
    start = skip_layout(text, (previous.comma_end or previous.span.end) if previous else open_ + 1)
    assert text[start] == sign
    return Item(Span(start, start + 1), comma_end(text, start + 1), None, sign)


def _bracketed(text: str, open_: int, close: int, items: Iterable[Item]) -> Bracketed:
    if text[open_] != "(" or text[close] != ")":
        raise AssertionError(f"parentheses expected at {open_} and {close}")
    return Bracketed(open_, close, tuple(items))


def _line_before(tree: Tree, call: cst.Call) -> tuple[LinePoint | None, tuple[int, ...]]:
    statement = statement_of(tree, call)
    block = tuple(id(ancestor) for ancestor in tree.ancestors(statement) if isinstance(ancestor, BLOCKS))
    path = [call, *tree.ancestors(call)]
    inner = path[: path.index(statement)]
    in_expression_scope = any(isinstance(node, (cst.Lambda, *Comprehension)) for node in inner)
    in_class = isinstance(tree.scopes[statement].node, cst.ClassDef)
    is_elif = isinstance(statement, cst.If) and isinstance(tree.parents[statement], cst.If)
    cannot = (
        cst.SimpleStatementSuite,
        cst.While,
        cst.FunctionDef,
        cst.ClassDef,
        cst.Try,
        cst.TryStar,
        cst.Match,
    )
    if in_expression_scope or in_class or is_elif or isinstance(statement, cannot):
        return None, block
    return point_before(tree, statement), block


def _occupied(tree: Tree, around: Scope) -> frozenset[str]:
    """Every name that means something in a function, its own and those it reads from outside."""
    names = set(around.bindings)
    for name, scope in tree.names:
        inside: Scope | None = scope
        while inside is not None and inside is not around:
            inside = inside.parent
        if inside is around:
            names.add(name.value)
    return frozenset(names)


def _local_names(scope: Scope | None) -> frozenset[str]:
    names: set[str] = set()
    while scope is not None and scope.parent is not None:
        names |= set(scope.bindings)
        scope = scope.parent
    return frozenset(names)


def _in_scope(tree: Tree, call: cst.Call, scope: Scope) -> frozenset[str]:
    """Names bound around a call: in its own function only those that are bound above it."""
    line = tree.line(call)
    names: set[str] = set()
    inner: Scope | None = scope
    while inner is not None:
        is_own = inner.function() is scope.function()
        for name, bindings in inner.bindings.items():
            parameter = any(binding.kind == "parameter" for binding in bindings)
            if scope.owner(name) is inner and (
                parameter or not is_own or any(tree.line(binding.node) < line for binding in bindings)
            ):
                names.add(name)
        inner = inner.parent
    return frozenset(names)


def _identifiers(tree: Tree) -> frozenset[str]:
    bound = {name for scope in tree.all_scopes for name in scope.bindings}
    return frozenset(bound | {name.value for name, _ in tree.names})


def _import_point(tree: Tree, found: list[tuple[cst.Call, Scope]], first: int) -> tuple[LinePoint, bool]:
    """After the top-level import that brought in the loss, else after the last one before the patch's first line."""
    top_level = [
        statement
        for statement in tree.module.body[:first]
        if isinstance(statement, cst.SimpleStatementLine)
        and any(isinstance(part, cst.Import | cst.ImportFrom) for part in statement.body)
    ]
    bringing = None
    relative = False
    for call, scope in found:
        for binding in scope.resolve((dotted_name(call.func) or "").split(".")[0]):
            if binding.kind != "import":
                continue
            imported = tree.parents[binding.node]
            relative = relative or (isinstance(imported, cst.ImportFrom) and bool(imported.relative))
            line = tree.parents[imported]
            bringing = line if bringing is None and line in top_level else bringing
    statement = bringing or (top_level[-1] if top_level else _docstring(tree.module))
    source = tree.source
    if statement is None:
        return LinePoint(_after_opening_comments(source), "", 1), relative
    return point_after(tree, statement), relative


def _docstring(module: cst.Module) -> cst.CSTNode | None:
    first = module.body[0] if module.body else None
    return first if first is not None and _is_docstring(first) else None


def _is_docstring(statement: cst.CSTNode) -> bool:
    expression = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
    return isinstance(expression, cst.Expr) and isinstance(expression.value, cst.SimpleString)


def _after_opening_comments(source: Source) -> int:
    """Past a `#!` line and a coding cookie, which must stay on the first two lines."""
    offset = 0
    while source.text.startswith("#", offset):
        offset = source.next_line(offset)
    return offset


def _distributed(tree: Tree, first: int) -> str | None:
    """How the top level names `torch.distributed` before the patch's first line, if it does so without conditions."""
    for statement in tree.module.body[:first]:
        if not isinstance(statement, cst.SimpleStatementLine):
            continue
        for part in statement.body:
            for spelling in _distributed_spellings(part):
                bindings = tree.root.bindings.get(spelling.split(".")[0], [])
                if all(_imports_torch(tree, binding) for binding in bindings):
                    return spelling
    return None


def _imports_torch(tree: Tree, binding: Binding) -> bool:
    if not isinstance(binding.node, cst.ImportAlias):
        return False
    imported = tree.parents[binding.node]
    if isinstance(imported, cst.Import):
        name = dotted_name(binding.node.name) or ""
        return name == "torch.distributed" or (binding.node.asname is None and name.split(".")[0] == "torch")
    return bool(_distributed_spellings(imported))


def _distributed_spellings(part: cst.CSTNode) -> list[str]:
    if isinstance(part, cst.Import):
        names = [alias for alias in part.names if dotted_name(alias.name) == "torch.distributed"]
    elif isinstance(part, cst.ImportFrom) and not isinstance(part.names, cst.ImportStar):
        of_torch = part.module is not None and dotted_name(part.module) == "torch" and not part.relative
        names = [alias for alias in part.names if of_torch and dotted_name(alias.name) == "distributed"]
    else:
        names = []
    return [(dotted_name(alias.asname.name) if alias.asname else dotted_name(alias.name)) or "" for alias in names]


def _config(tree: Tree, names: ConfigNames) -> Config | None:
    node = names.config_class
    if node is None or not isinstance(node.body, cst.IndentedBlock):
        return None
    source = tree.source
    fields = _fields(tree, node)
    if not fields:
        return None
    last = _last_field(node.body.body)
    offset = source.line_start(tree.span(last)[0])
    # What the class has besides: inherited fields, and names of its own that are none.
    inherited = [item for base in names.bases(node) for item in _fields(tree, base)]
    others = [
        _no_field(tree, name, binding.node)
        for name, bindings in _inside(tree, node).bindings.items()
        for binding in bindings[:1]
    ]
    indent = indentation(source, offset)
    end = source.next_line(tree.span(last)[1])
    # A comment that continues the last field's own stands deeper than the fields do.
    while (comment := re.compile(r"([ \t]*)#").match(source.text, end)) and len(comment[1]) > len(indent):
        end = source.next_line(end)
    return Config(
        name=node.name.value,
        line=tree.line(node.name),
        fields=tuple({item.name: item for item in reversed([*fields, *inherited, *others])}.values())[::-1],
        after_fields=LinePoint(end, indent, source.line_of(tree.span(last)[1])),
        comment_column=_comment_column(source, fields),
    )


def _fields(tree: Tree, node: cst.ClassDef) -> list[ConfigField]:
    lines = [statement for statement in node.body.body if isinstance(statement, cst.SimpleStatementLine)]
    parts = [part for line in lines for part in line.body]
    return [
        _config_field(tree, part)
        for part in parts
        if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name)
    ]


def _last_field(body: Sequence[cst.CSTNode]) -> cst.CSTNode:
    """The last field of a class, or the string below it that describes it."""
    last = body[0]
    for statement, following in zip(body, [*body[1:], None], strict=True):
        parts = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
        if any(isinstance(part, cst.AnnAssign) for part in parts):
            last = parts[-1]
            after = following.body[0] if isinstance(following, cst.SimpleStatementLine) else None
            if isinstance(after, cst.Expr) and isinstance(after.value, cst.SimpleString | cst.ConcatenatedString):
                last = after
    return last


def _inside(tree: Tree, node: cst.ClassDef | cst.FunctionDef) -> Scope:
    return tree.scopes[node.body]


def _no_field(tree: Tree, name: str, node: cst.CSTNode) -> ConfigField:
    span = Span(*tree.span(node))
    return ConfigField(name, "(no annotation)", None, span, None, tree.line(node))


def _config_field(tree: Tree, part: cst.AnnAssign) -> ConfigField:
    assert isinstance(part.target, cst.Name)
    default = _default(part.value)
    value = Span(*outer_span(tree, default)) if default else None
    last = part.value or part.annotation.annotation
    return ConfigField(
        name=part.target.value,
        annotation=tree.text(part.annotation.annotation),
        default=tree.source.text[value.start : value.end] if value else None,
        statement=Span(tree.span(part.target)[0], outer_span(tree, last)[1]),
        value=value,
        line=tree.line(part),
    )


def _default(value: cst.BaseExpression | None) -> cst.BaseExpression | None:
    """What a field has by default: the value itself, or that of `field(default=...)`."""
    if isinstance(value, cst.Call) and dotted_name(value.func) in ("field", "dataclasses.field"):
        given = [item.value for item in value.args if item.keyword and item.keyword.value == "default"]
        return given[0] if given else value
    return value


def _comment_column(source: Source, fields: Iterable[ConfigField]) -> int | None:
    """The column at which most of the fields' trailing comments start."""
    columns: list[int] = []
    for item in fields:
        rest = source.text[item.statement.end : source.line_end(item.statement.end)]
        if (stripped := rest.lstrip(" ")).startswith("#"):
            columns.append(item.statement.end - source.line_start(item.statement.end) + len(rest) - len(stripped))
    return max(set(columns), key=columns.count) if columns else None
