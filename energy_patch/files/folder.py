"""`energy_losses/` beside a script: whose it is, and what lies in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from energy_patch.files.present import present_record
from energy_patch.files.relaid import is_relaid
from energy_patch.files.templates import template_bytes, template_names
from energy_patch.record.codec import parse_record
from energy_patch.record.schema import RECORD_NAME, Record, module_hash
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".energy-patch-", ".tmp"


CACHE_NAME = "__pycache__"


def script_home(path: Path) -> tuple[Path, str]:
    """The folder and the name under which a script is recorded: where a symlink leads.

    Python puts that folder on `sys.path`, so `energy_losses/` is found there and nowhere else.
    """
    resolved = path.resolve()
    return resolved.parent, resolved.name


def _record_bytes(folder: Path) -> bytes | None:
    path = folder / FOLDER_NAME / RECORD_NAME
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"{FOLDER_NAME}/{RECORD_NAME} cannot be read ({error.strerror}); check its permissions"
        raise Refusal("unreadable", message) from None


def check_record_is_there(source: Source) -> None:
    """Refuse a script that is not recorded as patched, and yet imports our modules: its record was lost.

    Raises:
        Refusal: `patch-modified`.
    """
    names = "|".join(sorted(name.removesuffix(".py") for name in template_names() - {"__init__.py"}))
    found = re.search(rf"^[ \t]*from \.*{FOLDER_NAME}\.(?:{names}) import", source.text, re.MULTILINE)
    if found is not None:
        raise Refusal(
            "patch-modified",
            f"imports {FOLDER_NAME}, but {FOLDER_NAME}/{RECORD_NAME} beside it does not know this script; restore that "
            "file from version control, or take the patch's lines out by hand",
            line=source.line_of(found.start()),
        )


@dataclass(frozen=True)
class Module:
    """A loss module found beside a script: `current` where it is as in the templates, line ends and layout aside;
    `edited` where it is not, and not as recorded either; `outdated` where it is as recorded, and this version of the
    tool has another."""

    raw: bytes
    current: bool
    edited: bool
    outdated: bool


@dataclass(frozen=True)
class FolderState:
    """`energy_losses/` beside a script: absent, or ours.

    `record` is the one on the disk, `raw_record`, under the names that scripts have now; `known_by` maps the names of
    those that were copied or renamed to the recorded ones.
    """

    present: bool
    record: Record | None
    modules: Mapping[str, Module]
    raw_record: bytes | None = None
    known_by: Mapping[str, str] = field(default_factory=dict)


def inspect_folder(folder: Path) -> FolderState:
    """Look at the `energy_losses/` of a script's folder.

    Raises:
        Refusal: `conflict`, where it is somebody else's; `unreadable`, where its record cannot be used.
    """
    ours = folder / FOLDER_NAME
    if not ours.is_dir():
        if ours.exists() or ours.is_symlink():
            raise Refusal("conflict", f"{FOLDER_NAME} beside the script is not a folder; rename or move it")
        return FolderState(False, None, {})
    raw = _record_bytes(folder)
    record = None if raw is None else parse_record(raw)
    recorded = dict(record.modules) if record else {}
    templates = template_names()
    modules: dict[str, Module] = {}
    try:
        for path in sorted(ours.iterdir()):
            known = path.name in templates or path.name in recorded
            if known and path.is_file():
                modules[path.name] = _inspect_module(path, recorded.get(path.name), path.name in templates)
            if record is None and not (known and not modules[path.name].edited) and not is_by_product(path):
                raise _foreign(path.name)
    except OSError as error:
        message = f"{FOLDER_NAME}/ beside the script cannot be read ({error.strerror}); check its permissions"
        raise Refusal("unreadable", message) from None
    if record is None:
        return FolderState(True, None, modules, raw)
    present = present_record(folder, record)
    return FolderState(True, present.record, modules, raw, present.known_by)


def refuse_namesake(folder: Path) -> None:
    """Refuse a folder whose scripts may import a module of the user's that Python would not find beside ours.

    Raises:
        Refusal: `conflict`.
    """
    namesake = f"{FOLDER_NAME}.py"
    if (folder / namesake).exists():
        message = (
            f"{namesake} beside the script would be hidden by the folder {FOLDER_NAME}/; rename it and its imports"
        )
        raise Refusal("conflict", f"{message}, and run again")


def is_by_product(path: Path) -> bool:
    """Whether a file comes from running Python or from a run of ours that was killed."""
    stale = path.name.startswith(TEMPORARY_PREFIX) and path.name.endswith(TEMPORARY_SUFFIX)
    return stale or (path.name == CACHE_NAME and path.is_dir())


def _inspect_module(path: Path, recorded: str | None, template: bool) -> Module:
    raw = path.read_bytes()
    digest = module_hash(raw)
    ours = template_bytes(path.name) if template else b""
    current = template and (digest == module_hash(ours) or is_relaid(raw, ours))
    edited = digest != recorded and not current
    return Module(raw, current, edited, outdated=template and not edited and not current)


def _foreign(name: str) -> Refusal:
    return Refusal(
        "conflict",
        f"a folder {FOLDER_NAME}/ that energy-patch did not make stands beside the script (it holds {name}); "
        "rename it, or restore its patch.json if it was lost",
    )
