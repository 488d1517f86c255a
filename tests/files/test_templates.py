"""Which modules are copied together."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.files import templates


def test_a_module_brings_in_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "__init__.py": "",
        "check.py": "from . import f\n",
        "a.py": "from .b import x\nimport torch\n",
        "b.py": "def f():\n    from . import c, torch\n",
        "c.py": "from energy_losses.d import y\n",
        "d.py": "import energy_losses.e as e\n",
        "e.py": "from . import a\nfrom ..a import z\n",
        "f.py": "",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(templates, "templates_folder", lambda: tmp_path)
    assert templates.module_closure(["f.py"]) == ("__init__.py", "check.py", "f.py")
    closure = templates.module_closure(["c.py"])
    assert closure == ("__init__.py", "a.py", "b.py", "c.py", "check.py", "d.py", "e.py", "f.py")


def test_every_template_is_found_and_closed() -> None:
    for name in templates.template_names():
        closure = templates.module_closure([name])
        assert {"__init__.py", "check.py"} <= set(closure) <= templates.template_names()
        assert closure == templates.module_closure(closure)
