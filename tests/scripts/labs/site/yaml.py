"""yaml: flat files of `key: value`."""

import ast


def safe_load(stream):
    text = stream if isinstance(stream, str) else stream.read()
    pairs = [line.split(": ", 1) for line in text.splitlines() if line]
    return {key: _value(value) for key, value in pairs}


def _value(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
