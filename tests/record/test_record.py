"""The record: written the same each time, read with suspicion."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_patch.files import templates
from energy_patch.record.codec import dump_record, parse_record
from energy_patch.record.schema import FORMAT, Record, module_hash, sha256
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import decode_source
from energy_patch.unpatch.current import current_entry
from energy_patch.unpatch.undo import undo
from tests.conftest import Command
from tests.scripts.marked import TRAINING, read_marked

PATCH = read_marked(TRAINING)
OTHER = read_marked(TRAINING.replace("new_infonce", "queued_infonce"), strategy="queue", modules=("ranks.py",))
RECORD = Record(
    {name: module_hash(templates.template_bytes(name)) for name in PATCH.entry.modules},
    {"train.py": dataclasses.replace(PATCH.entry, previous=OTHER.entry), "能量.py": OTHER.entry},
)


def refused(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_record(raw)
    assert caught.value.reason == "unreadable"
    assert caught.value.message.startswith("energy_losses/patch.json ")
    return caught.value


def changed(path: str, value: object) -> bytes:
    """The record with one value replaced; `path` is dotted, a number is a place in a list."""
    tree = json.loads(dump_record(RECORD))
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    node: Any = tree
    for key in parents:
        node = node[key]
    node[last] = value
    return json.dumps(tree).encode()


# Writing


def test_there_and_back() -> None:
    raw = dump_record(RECORD)
    assert parse_record(raw) == RECORD
    assert dump_record(parse_record(raw)) == raw
    assert raw.endswith(b"}\n")
    assert "能量.py".encode() in raw
    assert list(json.loads(raw)) == ["format", "modules", "scripts", "tool"]


def test_order_of_scripts_and_options_does_not_matter() -> None:
    def turn(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {name: mapping[name] for name in reversed(list(mapping))}

    turned = dataclasses.replace(RECORD, modules=turn(RECORD.modules), scripts=turn(RECORD.scripts))
    assert dump_record(turned) == dump_record(RECORD)


def test_an_entry_says_where_and_what() -> None:
    entry = PATCH.entry
    assert entry.original == sha256(PATCH.before.encode())
    assert entry.patched == sha256(PATCH.after.encode())
    assert entry.modules == templates.module_closure(("global_infonce.py",))
    assert {"__init__.py", "global_infonce.py", "ranks.py"} <= set(entry.modules)
    for region in entry.edits:
        assert PATCH.before[region.start : region.end] == region.before
        first = region.after.split()[0]
        assert first in PATCH.after.splitlines()[region.line - 1]
        assert region.above + region.after + region.below in PATCH.after
        assert region.above.strip()
        assert region.below.strip()


def test_an_entry_names_the_loss(tmp_path: Path, energy_patch: Command) -> None:
    """Programs that know no strategies, as the check in `energy_losses/`, read there which loss the script calls."""
    script = tmp_path / "train.py"
    script.write_text(
        "from energy.energy_model import energy_inbatch_swap_infonce\n"
        "\n\ndef loss(model, h, a):\n    return energy_inbatch_swap_infonce(model, h, a)[0]\n"
    )
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    (entry,) = json.loads((tmp_path / "energy_losses" / "patch.json").read_text("utf-8"))["scripts"].values()
    assert entry["loss"] == "queue_infonce.queued_energy_infonce_loss"


def test_names_that_the_script_had_already_are_counted() -> None:
    patch = read_marked("import x\nx.dist()\n«¦import torch.distributed as dist\n»y = 'dist'\n", names=("dist",))
    assert patch.entry.names == {"dist": 1}


# Reading


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "no JSON": (b"{", "is not JSON"),
    "no UTF-8": (b'{"a": "\xff"}', "is not JSON"),
    "a list": (b"[]", "should be an object"),
    "null": (b"null", "should be an object"),
    "not a number": (b'{"format": NaN}', "is not JSON"),
    "a huge number": (b'{"format": ' + b"9" * 5000 + b"}", "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "no format": (b"{}", "'format'"),
    "format true": (changed("format", True), "'format'"),
    "newer": (changed("format", FORMAT + 1), "upgrade energy-patch"),
    "older": (changed("format", 0), "format 0"),
    "modules a list": (changed("modules", []), "'modules'"),
    "scripts missing": (changed("scripts", None), "'scripts'"),
    "tool a number": (changed("tool", 3), "'tool'"),
    "a hash too short": (changed("modules/ranks.py", "ab"), "SHA-256"),
    "a hash in capitals": (changed("scripts/train.py/original", "A" * 64), "SHA-256"),
    "a module that is no Python": (changed("modules/evil.sh", "0" * 64), "no .py file"),
    "an edit with a length that lies": (changed("scripts/train.py/edits/0/end", 10**6), "length"),
    "edits that overlap": (
        changed(
            "scripts/train.py/edits",
            [
                dataclasses.asdict(dataclasses.replace(region, start=start, end=start + 3, before="abc"))
                for region, start in zip(PATCH.entry.edits[:2], (5, 7), strict=True)
            ],
        ),
        "has edits that overlap",
    ),
    "by itself maybe": (changed("scripts/train.py/by_itself", 1), "'by_itself'"),
    "a loss that is no text": (changed("scripts/train.py/loss", None), "'loss'"),
    "a negative span": (changed("scripts/train.py/edits/0/start", -1), "'start'"),
    "edits out of order": (
        changed("scripts/train.py/edits", [dataclasses.asdict(region) for region in reversed(PATCH.entry.edits)]),
        "overlap",
    ),
    "tunable maybe": (changed("scripts/train.py/edits/0/tunable", "maybe"), "'tunable'"),
    "an option that is a list": (changed("scripts/train.py/options/tau", [0.3]), "option"),
    "an infinite option": (changed("scripts/train.py/options/tau", 1).replace(b'"tau": 1', b'"tau": 1e999'), "option"),
    "half a surrogate pair": (changed("scripts/train.py/edits/0/after", "\ud800"), "surrogate"),
    "a chain of entries": (
        changed("scripts/train.py/previous/previous", json.loads(dump_record(RECORD))["scripts"]["train.py"]),
        "more than one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_that_cannot_be_used(name: str) -> None:
    raw, word = WRONG[name]
    assert word in refused(raw).message


OUTSIDE = [
    "../train.py",
    "a/../../b.py",
    "a//b.py",
    "/etc/passwd.py",
    "..",
    ".",
    "",
    "a\\b.py",
    "C:x.py",
    "nul\0.py",
    "\udc80.py",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_the_folder(name: str) -> None:
    tree = json.loads(dump_record(RECORD))
    for key, value in (("modules", "0" * 64), ("scripts", tree["scripts"]["train.py"])):
        refused(json.dumps({**tree, key: {name: value}}).encode())
    refused(changed("scripts/train.py/modules", [name]))


def test_a_mark_and_other_line_ends_do_no_harm() -> None:
    raw = dump_record(RECORD)
    assert parse_record(b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")) == RECORD


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x.py", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_record_is_refused_or_does_no_harm(data: st.DataObject) -> None:
    tree = json.loads(dump_record(RECORD))
    for _ in range(data.draw(st.integers(1, 3))):
        damage(tree, data)
    script = decode_source(Path("train.py"), PATCH.patched)
    edited = decode_source(Path("train.py"), PATCH.patched.replace(b"import os", b"import os, sys"))
    try:
        record = parse_record(json.dumps(tree).encode())
    except Refusal as refusal:
        assert refusal.reason == "unreadable"  # noqa: PT017
        return
    assert parse_record(dump_record(record)) == record
    for source in (script, edited):
        try:
            entry = current_entry(record, "train.py", source.raw)
            undone = undo(source, entry) if entry else None
        except Refusal as refusal:
            assert refusal.reason in ("unreadable", "patch-modified")  # noqa: PT017
        else:
            assert undone is None or not undone.exact or undone.text in (PATCH.before, OTHER.before)


def damage(node: Any, data: st.DataObject) -> None:
    """Change one thing somewhere below a node."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and data.draw(st.integers(0, 9)):
            node = node[key]
            continue
        if data.draw(st.booleans()) and isinstance(node, dict):
            del node[key]
        elif isinstance(node[key], str) and data.draw(st.booleans()):
            node[key] = node[key][: data.draw(st.integers(0, 5))] + data.draw(st.text(max_size=3))
        elif isinstance(node[key], int) and data.draw(st.booleans()):
            node[key] += data.draw(st.integers(-3, 3))
        else:
            node[key] = data.draw(JSON)
        return


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(raw: bytes) -> None:
    refused(raw)


def test_cut_anywhere_it_is_refused() -> None:
    raw = dump_record(RECORD)
    for length in range(0, len(raw) - 2, 97):
        refused(raw[:length])


# Which entry


def test_the_entry_is_told_by_the_bytes() -> None:
    now, before = PATCH.entry, OTHER.entry
    record = Record({}, {"train.py": dataclasses.replace(now, previous=before)})
    assert current_entry(record, "train.py", PATCH.patched) == now
    assert current_entry(record, "train.py", OTHER.patched) == before
    assert current_entry(record, "train.py", PATCH.before.encode()) is None
    assert current_entry(record, "other.py", PATCH.patched) is None
    assert current_entry(None, "train.py", PATCH.patched) is None
    edit = b"\n# more\n"
    assert current_entry(record, "train.py", PATCH.patched + edit) == now
    assert current_entry(record, "train.py", OTHER.patched + edit) == before
    assert current_entry(record, "train.py", PATCH.before.encode() + edit) is None
    damaged = OTHER.patched.replace(b"replicate(energy_model)", b"replicate(energy)")
    assert current_entry(record, "train.py", damaged) == now  # somebody's, and `undo` will say what is wrong
    counting = PATCH.before.encode() + b"import torch.distributed as dist\nworld_size = dist.get_world_size()\n"
    assert current_entry(record, "train.py", counting) is None
