"""Where a value comes from, across files."""

from __future__ import annotations

from pathlib import Path

from energy_patch.analysis.aliases import Aliases, wrapped_part
from energy_patch.analysis.calls import CallGraph
from tests.analysis.programs import program

VALUES = """\
from helper import make


def wrap(module):
    return DDP(module)


def train(model):
    use(model)


policy, (energy), rest = make(), wrap(Energy()), 3
train(energy)
"""


def test_where_a_value_comes_from(tmp_path: Path) -> None:
    found = program(tmp_path, VALUES, helper="def make():\n    return Policy()\n")
    aliases = Aliases(CallGraph(found))
    use = next(call for call, _ in found.calls if found.text(call) == "use(model)")
    start = use.args[0].value
    made = [found.text(node) for node in aliases.made_from(start, found.scopes[start], wrapped_part)]
    assert made == ["wrap(Energy())", "DDP(module)", "Energy()"]
    ref = aliases.ref(start, found.scopes[start])
    assert ref is not None
    refs, origins = aliases.upward([ref])
    assert {item.name for item in refs} == {"model", "energy", "module"}
    assert [found.text(item.node) for item in origins] == ["Energy()"]


def test_an_imported_variable_is_its_module_s_own(tmp_path: Path) -> None:
    found = program(
        tmp_path,
        "from helper import model as net\nimport helper\nuse(net)\nuse(helper.model)\nuse(helper.other)\n",
        helper="model = Model()\n",
    )
    aliases = Aliases(CallGraph(found))
    used = [call.args[0].value for call, _ in found.calls if found.text(call.func) == "use"]
    refs = [aliases.ref(node, found.scopes[node]) for node in used]
    assert refs[0] is not None
    assert (refs[0].name, refs[0].scope) == ("model", found.trees[1].root)
    assert refs[1] == refs[0]
    assert refs[2] is None
    assert [found.text(item.node) for item in aliases.upward([refs[0]]).made] == ["Model()"]


def test_a_name_with_two_imports_is_the_script_s_own(tmp_path: Path) -> None:
    text = "try:\n    from helper import model\nexcept ImportError:\n    from other import model\nuse(model)\n"
    found = program(tmp_path, text, helper="model = Model()\n")
    [call] = [call for call, _ in found.script.calls]
    ref = Aliases(CallGraph(found)).ref(call.args[0].value, found.script.root)
    assert ref is not None
    assert ref.scope is found.script.root


def test_names_given_to_each_other(tmp_path: Path) -> None:
    found = program(tmp_path, "a = b\nb = a\nuse(a)\n")
    aliases = Aliases(CallGraph(found))
    [call] = [call for call, _ in found.calls]
    assert [*aliases.made_from(call.args[0].value, found.script.root, wrapped_part)] == []
