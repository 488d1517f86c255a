"""`patch.json` as bytes and back: it is data that travelled, so nothing in it is believed before it was looked at."""

from __future__ import annotations

import json
import re
from typing import Any

from energy_patch.record.schema import FORMAT, RECORD_NAME, Record, Region, ScriptEntry
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME, Value


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


def is_recordable(text: str) -> bool:
    """Whether the record can hold a text; the name of a file may be any bytes on some systems."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


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


def parse_record(raw: bytes) -> Record:
    """A record from its bytes.

    Raises:
        Refusal: `unreadable`, where they are not a record that this version can use.
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


def _unusable(what: str, how: str = "restore that file (git checkout, a backup)") -> Refusal:
    return Refusal("unreadable", f"{FOLDER_NAME}/{RECORD_NAME} {what}; {how}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _read_record(tree: object) -> Record:
    top = _mapping(tree, "the record")
    version = _number(top, "format")
    if version > FORMAT:
        tool = top.get("tool")
        written = f" (energy-patch {tool})" if isinstance(tool, str) and tool.isprintable() else ""
        raise _unusable(f"was written by a newer version{written}", "upgrade energy-patch")
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
        loss=_string({"loss": "", **entry}, "loss"),
        reaches=tuple(_path_name(name) for name in _list({"reaches": [], **entry}, "reaches")),
        by_itself=_flag({"by_itself": False, **entry}, "by_itself"),
        previous=None if previous is None else _read_entry(previous, nested=True),
    )


def _read_region(tree: object) -> Region:
    region = _mapping(tree, "an edit")
    start, end, before = _number(region, "start"), _number(region, "end"), _string(region, "before")
    if end - start != len(before):
        raise _Malformed("has an edit whose span and text differ in length")
    return Region(
        start=start,
        end=end,
        before=before,
        after=_string(region, "after"),
        line=_number(region, "line"),
        above=_string(region, "above"),
        below=_string(region, "below"),
        title=_string(region, "title"),
        tunable=_flag(region, "tunable"),
        holds={_text(name): _text(option) for name, option in _mapping(region.get("holds", {}), "'holds'").items()},
        owner=_string({"owner": "", **region}, "owner"),
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
    if not is_recordable(value):
        raise _Malformed("holds half a surrogate pair, which is no text")
    return value


def _string(tree: dict[str, object], key: str) -> str:
    if not isinstance(tree.get(key), str):
        raise _Malformed(f"is not a record: '{key}' should be a text")
    return _text(tree[key])


def _flag(tree: dict[str, object], key: str) -> bool:
    value = tree.get(key)
    if not isinstance(value, bool):
        raise _Malformed(f"is not a record: {key!r} is neither true nor false")
    return value


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
