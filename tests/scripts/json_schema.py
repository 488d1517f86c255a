"""The part of JSON Schema that `energy_patch/report/schema.json` uses; a keyword that is not known here is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import energy_patch.report

SCHEMA_FILE = Path(energy_patch.report.__file__).with_name("schema.json")
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text("utf-8"))
NOTES = {"$schema", "$defs", "title", "description"}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def faults(value: object, schema: Mapping[str, Any] = SCHEMA, where: str = "$") -> Iterator[str]:
    """What in a value is not as the schema says, each with its place."""
    for keyword, wanted in schema.items():
        if keyword in NOTES:
            continue
        yield from _RULES[keyword](value, wanted, schema, where)


def _type(value: object, wanted: str | list[str], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(_is(value, name) for name in names):
        yield f"{where} is {value!r}, not {' or '.join(names)}"


def _is(value: object, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _enum(value: object, wanted: list[object], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if value not in wanted:
        yield f"{where} is {value!r}, none of {wanted}"


def _minimum(value: object, wanted: int, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, int) and value < wanted:
        yield f"{where} is {value}, below {wanted}"


def _required(value: object, wanted: list[str], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{where} has no {name}" for name in wanted if name not in value)


def _properties(value: object, wanted: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value.keys() & wanted.keys():
            yield from faults(value[name], wanted[name], f"{where}.{name}")


def _others(value: object, wanted: bool | dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            if wanted is False:
                yield f"{where} has {name}, which the schema does not know"
            elif isinstance(wanted, dict):
                yield from faults(value[name], wanted, f"{where}.{name}")


def _items(value: object, wanted: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from faults(item, wanted, f"{where}[{number}]")


def _reference(value: object, wanted: str, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from faults(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")], where)


_RULES: dict[str, Any] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value, wanted, schema, where: _enum(value, [wanted], schema, where),
    "minimum": _minimum,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _others,
    "items": _items,
    "$ref": _reference,
}
