"""Command line for a config dataclass: `--field value`, `--field=value`, `--flag` (the little of draccus we need)."""

import dataclasses
import functools
import inspect
import sys
import typing
from pathlib import Path


def _convert(text, kind):
    options = [t for t in typing.get_args(kind) if t is not type(None)]
    if options:  # Optional[...]
        return None if text.lower() in ("none", "null") else _convert(text, options[0])
    if kind is bool:
        if text.lower() in ("1", "true", "yes"):
            return True
        if text.lower() in ("0", "false", "no"):
            return False
        raise ValueError(text)
    if kind in (int, float, str, Path):
        return kind(text)
    raise TypeError(f"fields of type {kind} cannot be given on the command line")


def parse(config_class, argv):
    kinds = typing.get_type_hints(config_class)
    names = {f.name for f in dataclasses.fields(config_class)}
    values = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, text = word[2:].partition("=")
        if not word.startswith("--") or name not in names:
            sys.exit(f"unknown argument: {word}")
        if not equals:
            if kinds[name] is bool and (not rest or rest[0].startswith("--")):
                text = "true"
            elif rest:
                text = rest.pop(0)
            else:
                sys.exit(f"--{name} needs a value")
        try:
            values[name] = _convert(text, kinds[name])
        except ValueError:
            sys.exit(f"--{name}: not a {getattr(kinds[name], '__name__', kinds[name])}: {text}")
    return config_class(**values)


def wrap():
    """Decorator: the first argument of the function is a config dataclass that is read from `sys.argv`."""

    def decorate(function):
        @functools.wraps(function)
        def main(config=None):
            if config is None:
                first = next(iter(inspect.signature(function).parameters))
                config = parse(typing.get_type_hints(function)[first], sys.argv[1:])
            return function(config)

        return main

    return decorate
