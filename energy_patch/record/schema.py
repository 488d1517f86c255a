"""`energy_losses/patch.json`: what was done to each script, so that it can be known again and taken back.

`folder` is always the folder of the scripts, the one that holds `energy_losses/`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energy_patch import __version__
from energy_patch.files.templates import module_closure, template_bytes, template_names
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import LINE_END, Source, decode_source
from energy_patch.syntax.tokens import COMMENT, identifiers, lex

if TYPE_CHECKING:  # plan.py is read with the locator behind it; reading a record must stay fast
    from energy_patch.rewrite.planner import Plan, PlannedEdit, Value

FORMAT = 1
RECORD_NAME = "patch.json"
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".energy-patch-", ".tmp"
CACHE_NAME = "__pycache__"


@dataclass(frozen=True)
class Region:
    """One edit as recorded: `before` stood at `start:end` of the original, `after` stands there now.

    `above` and `below` adjoin `after` in the patched text and reach to the nearest line that is not blank. `holds` maps
    the names in `after` whose value is that of an option to this option.
    """

    start: int
    end: int
    before: str
    after: str
    line: int
    above: str
    below: str
    title: str
    tunable: bool = False
    holds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScriptEntry:
    """How one file was patched. `names` maps each identifier that the patch brought in to the number of times the
    original had it already; `reaches` are the modules that were patched because this script imports them; `previous` is
    the entry that is being replaced, while it is."""

    strategy: str
    options: Mapping[str, Value]
    original: str
    patched: str
    encoding: str
    names: Mapping[str, int]
    modules: tuple[str, ...]
    edits: tuple[Region, ...]
    reaches: tuple[str, ...] = ()
    previous: ScriptEntry | None = None


@dataclass(frozen=True)
class Record:
    """The whole file: loss modules by name with their hashes; scripts, and modules that are patched with them, by their
    path below the folder, with their entries."""

    modules: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, ScriptEntry] = field(default_factory=dict)
    tool: str = __version__


def script_home(path: Path) -> tuple[Path, str]:
    """The folder and the name under which a script is recorded: where a symlink leads.

    Python puts that folder on `sys.path`, so `energy_losses/` is found there and nowhere else.
    """
    resolved = path.resolve()
    return resolved.parent, resolved.name


def sha256(raw: bytes) -> str:
    """Hash of a script's very bytes."""
    return hashlib.sha256(raw).hexdigest()


def module_hash(raw: bytes) -> str:
    """Hash of a module with its line ends normalised: git may have converted them."""
    return sha256(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))


# Writing an entry


def make_entry(plan: Plan, patched: bytes) -> ScriptEntry:
    """The entry of a planned patch, given the bytes that it turns the script into.

    Raises:
        ValueError: an edit leaves nothing in the script by which it could be found again.
    """
    source = plan.source
    text = apply_edits(source.text, [planned.edit for planned in plan.edits])
    regions: list[Region] = []
    shift = 0
    for edit, planned in _findable(plan):
        start = edit.start + shift
        end = start + len(edit.text)
        shift += len(edit.text) - (edit.end - edit.start)
        regions.append(
            Region(
                start=edit.start,
                end=edit.end,
                before=source.text[edit.start : edit.end],
                after=edit.text,
                line=1 + len(LINE_END.findall(text, 0, start + _leading_space(edit.text))),
                above=text[_context_start(text, start) : start],
                below=text[end : _context_end(text, end)],
                title=planned.title,
                tunable=planned.tunable,
                holds=dict(planned.holds),
            )
        )
    return ScriptEntry(
        strategy=plan.strategy,
        options=dict(plan.options),
        original=sha256(source.raw),
        patched=sha256(patched),
        encoding=source.encoding,
        names=_counted(plan.names, source.text),
        modules=module_closure(plan.modules),
        edits=tuple(regions),
    )


def _findable(plan: Plan) -> list[tuple[Edit, PlannedEdit]]:
    """The edits in order; one that is a mere separator becomes one with the edit that it was made for."""
    found: list[tuple[Edit, PlannedEdit]] = []
    waiting: Edit | None = None
    for planned in sorted(plan.edits, key=lambda planned: (planned.edit.start, planned.edit.end)):
        edit = planned.edit
        if waiting is not None:
            between = plan.source.text[waiting.end : edit.start]
            if any(token.kind != COMMENT for token in lex(between)):
                raise ValueError(f"nothing of edit {waiting} could be found again")
            edit = Edit(waiting.start, edit.end, waiting.text + between + edit.text)
        findable = any(token.solid and token.kind != COMMENT for token in lex(edit.text))
        waiting = None if findable else edit
        if findable:
            found.append((edit, planned))
    if waiting is not None:
        raise ValueError(f"nothing of edit {waiting} could be found again")
    return found


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())


def _context_start(text: str, position: int) -> int:
    """Where the nearest earlier line begins that is not blank; `position`'s own line does not count."""
    starts = [0, *(match.end() for match in LINE_END.finditer(text, 0, position))]
    own = starts.pop()
    while starts:
        start = starts.pop()
        if text[start:own].strip():
            return start
    return 0


def _context_end(text: str, position: int) -> int:
    """Where the nearest line after `position`'s own ends that is not blank."""
    own = LINE_END.search(text, position)
    begin = own.end() if own else len(text)
    # An edit that ends with its line has the next line as its own.
    if position and text[position - 1] in "\r\n":
        begin = position
    for match in LINE_END.finditer(text, begin):
        if text[begin : match.start()].strip():
            return match.end()
    return len(text)


def _counted(names: tuple[str, ...], text: str) -> dict[str, int]:
    """How often the original has each name already; parsed only if one of them occurs at all."""
    present = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    if not present:
        return dict.fromkeys(names, 0)
    try:
        counts = Counter(name for name, _ in identifiers(text))
    except (SyntaxError, ValueError, RecursionError):
        counts = Counter()
    return {name: counts[name] for name in names}


def dump_record(record: Record) -> bytes:
    """The same record always gives the same bytes, so that a preview and a run agree."""
    tree = {
        "format": FORMAT,
        "tool": record.tool,
        "modules": dict(record.modules),
        "scripts": {name: _entry_tree(entry) for name, entry in record.scripts.items()},
    }
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    return text.encode("utf-8") + b"\n"


def _entry_tree(entry: ScriptEntry) -> dict[str, Any]:
    tree = {
        **vars(entry),
        "options": dict(entry.options),
        "names": dict(entry.names),
        "modules": list(entry.modules),
        "edits": [{**vars(region), "holds": dict(region.holds)} for region in entry.edits],
        "reaches": list(entry.reaches),
    }
    previous = tree.pop("previous")
    return tree if previous is None else {**tree, "previous": _entry_tree(previous)}


# Reading a record: it is data that travelled, so nothing in it is believed before it was looked at.


def _record_bytes(folder: Path) -> bytes | None:
    path = folder / FOLDER_NAME / RECORD_NAME
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"{FOLDER_NAME}/{RECORD_NAME} cannot be read ({error.strerror}); check its permissions"
        raise Refusal("unreadable", message) from None


def parse_record(raw: bytes) -> Record:
    """A record from its bytes.

    Raises:
        Refusal: `drifted`, where they are not a record that this version can use.
    """
    if not raw.strip():
        raise _unusable("is empty")
    try:
        tree = json.loads(raw.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _unusable(f"is not JSON ({error})") from None
    try:
        return _read_record(tree)
    except _Malformed as error:
        raise _unusable(str(error)) from None


class _Malformed(Exception):
    """What is wrong with the tree, in words that go on after the file's name."""


def _unusable(what: str) -> Refusal:
    how = "restore it (git checkout, a backup), or delete the folder once no script imports from it"
    return Refusal("drifted", f"{FOLDER_NAME}/{RECORD_NAME} {what}; {how}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _read_record(tree: object) -> Record:
    top = _mapping(tree, "the record")
    version = _number(top, "format")
    if version > FORMAT:
        tool = top.get("tool")
        written = f" (energy-patch {tool})" if isinstance(tool, str) and tool.isprintable() else ""
        raise _Malformed(f"was written by a newer version{written}: upgrade energy-patch")
    if version != FORMAT:
        raise _Malformed(f"has format {version}, which no version of energy-patch writes")
    modules = {
        _file_name(name, module=True): _digest(value)
        for name, value in _mapping(top.get("modules"), "'modules'").items()
    }
    scripts = {
        _path_name(name): _read_entry(value) for name, value in _mapping(top.get("scripts"), "'scripts'").items()
    }
    return Record(modules, scripts, _string(top, "tool"))


def _read_entry(tree: object, *, nested: bool = False) -> ScriptEntry:
    entry = _mapping(tree, "a script's entry")
    previous = entry.get("previous")
    if previous is not None and nested:
        raise _Malformed("keeps more than one earlier entry of a script")
    regions = tuple(_read_region(item) for item in _list(entry, "edits"))
    position = 0
    for region in regions:
        if region.start < position:
            raise _Malformed("has edits that overlap")
        position = region.end
    names = _mapping(entry.get("names"), "'names'")
    return ScriptEntry(
        strategy=_string(entry, "strategy"),
        options={_text(name): _option(value) for name, value in _mapping(entry.get("options"), "'options'").items()},
        original=_digest(entry.get("original")),
        patched=_digest(entry.get("patched")),
        encoding=_string(entry, "encoding"),
        names={_text(name): _number(names, name) for name in names},
        modules=tuple(_file_name(name, module=True) for name in _list(entry, "modules")),
        edits=regions,
        reaches=tuple(_path_name(name) for name in _list({"reaches": [], **entry}, "reaches")),
        previous=None if previous is None else _read_entry(previous, nested=True),
    )


def _read_region(tree: object) -> Region:
    region = _mapping(tree, "an edit")
    start, end, before = _number(region, "start"), _number(region, "end"), _string(region, "before")
    if end - start != len(before):
        raise _Malformed("has an edit whose span and text differ in length")
    tunable = region.get("tunable")
    if not isinstance(tunable, bool):
        raise _Malformed("has an edit whose 'tunable' is neither true nor false")
    return Region(
        start=start,
        end=end,
        before=before,
        after=_string(region, "after"),
        line=_number(region, "line"),
        above=_string(region, "above"),
        below=_string(region, "below"),
        title=_string(region, "title"),
        tunable=tunable,
        holds={_text(name): _text(option) for name, option in _mapping(region.get("holds", {}), "'holds'").items()},
    )


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Malformed(f"is not a record: {what} should be an object")
    return value


def _list(tree: dict[str, object], key: str) -> list[object]:
    value = tree.get(key)
    if not isinstance(value, list):
        raise _Malformed(f"is not a record: '{key}' should be a list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Malformed("is not a record: a text is missing or of another type")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Malformed("holds half a surrogate pair, which is no text") from None
    return value


def _string(tree: dict[str, object], key: str) -> str:
    if not isinstance(tree.get(key), str):
        raise _Malformed(f"is not a record: '{key}' should be a text")
    return _text(tree[key])


def _number(tree: dict[str, object], key: str) -> int:
    value = tree.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Malformed(f"is not a record: {key!r} should be a whole number, not below 0")
    return value


def _option(value: object) -> Value:
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, int | float) or value in (float("inf"), float("-inf")):
        raise _Malformed("has an option that is neither text nor number")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise _Malformed("is not a record: a SHA-256 is missing or malformed")
    return value


def _path_name(value: object) -> str:
    """A path of such names: a file in the folder or below it."""
    return "/".join(_file_name(part) for part in _text(value).split("/"))


def _file_name(value: object, *, module: bool = False) -> str:
    """A name that cannot leave its folder, on any system."""
    name = _text(value)
    if not name or name in (".", "..") or re.search(r"[/\\:\0]", name):
        raise _Malformed(f"names a file outside its folder ({name!r:.80})")
    if module and not name.endswith(".py"):
        raise _Malformed(f"names a module that is no .py file ({name!r:.80})")
    return name


# Which entry a script is in


def current_entry(record: Record | None, name: str, raw: bytes) -> ScriptEntry | None:
    """The entry that a script's bytes are patched by; None where they are not patched.

    A script that was edited since belongs to the newest entry whose regions can be found; if none can be
    found, but some of its names are still there, to the newest of all, and `undo` will say what is missing.
    """
    entry = record.scripts.get(name) if record else None
    if entry is None:
        return None
    known = [entry, *([entry.previous] if entry.previous else [])]
    digest = sha256(raw)
    for candidate in known:
        if candidate.patched == digest:
            return replace(candidate, previous=None)
    if not entry.edits:
        return replace(entry, previous=None)  # only modules that the script imports are patched
    if any(candidate.original == digest for candidate in known):
        return None
    # Only edited scripts need the matcher.
    from energy_patch.unpatch.undo import is_present, leaves_traces

    source = decode_source(Path(name), raw)
    for candidate in known:
        if is_present(source, candidate):
            return replace(candidate, previous=None)
    if any(leaves_traces(source, candidate) for candidate in known):
        return replace(entry, previous=None)
    return None


def check_record_is_there(source: Source) -> None:
    """Refuse a script that is not recorded as patched, and yet imports our modules: its record was lost.

    Raises:
        Refusal: `drifted`.
    """
    names = "|".join(sorted(name.removesuffix(".py") for name in template_names() - {"__init__.py"}))
    found = re.search(rf"^[ \t]*from \.*{FOLDER_NAME}\.(?:{names}) import", source.text, re.MULTILINE)
    if found is not None:
        raise Refusal(
            "drifted",
            f"imports {FOLDER_NAME}, but {FOLDER_NAME}/{RECORD_NAME} beside it does not know this script; restore that "
            "file from version control, or take the patch's lines out by hand",
            line=source.line_of(found.start()),
        )


# Whose folder it is


@dataclass(frozen=True)
class Module:
    """A loss module found beside a script; `edited` where it is neither as recorded nor as in the templates."""

    raw: bytes
    edited: bool


@dataclass(frozen=True)
class FolderState:
    """`energy_losses/` beside a script: absent, or ours."""

    present: bool
    record: Record | None
    modules: Mapping[str, Module]
    raw_record: bytes | None = None


def inspect_folder(folder: Path) -> FolderState:
    """Look at the `energy_losses/` of a script's folder.

    Raises:
        Refusal: `conflict`, where it is somebody else's; `drifted`, where its record cannot be used.
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
    return FolderState(True, record, modules, raw)


def is_by_product(path: Path) -> bool:
    """Whether a file comes from running Python or from a run of ours that was killed."""
    stale = path.name.startswith(TEMPORARY_PREFIX) and path.name.endswith(TEMPORARY_SUFFIX)
    return stale or (path.name == CACHE_NAME and path.is_dir())


def _inspect_module(path: Path, recorded: str | None, template: bool) -> Module:
    raw = path.read_bytes()
    digest = module_hash(raw)
    edited = digest != recorded and not (template and digest == module_hash(template_bytes(path.name)))
    return Module(raw, edited)


def _foreign(name: str) -> Refusal:
    return Refusal(
        "conflict",
        f"a folder {FOLDER_NAME}/ that energy-patch did not make stands beside the script (it holds {name}); "
        "rename it, or restore its patch.json if it was lost",
    )
