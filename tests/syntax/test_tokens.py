"""The lexer against Python's own, and on what Python's own cannot read."""

from __future__ import annotations

import io
import sys
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import energy_patch
from energy_patch.syntax.source import decode_source
from energy_patch.syntax.tokens import lex, partners, same

LAYOUT = {tokenize.ENCODING, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
FILES = [*Path(energy_patch.__file__).parent.rglob("*.py"), Path(tokenize.__file__), Path(pytest.__file__)]


def texts(text: str) -> list[str]:
    return [token.text for token in lex(text)]


def expected(raw: bytes) -> list[str]:
    """Python's own tokens; since 3.12 an f-string is several, which are put together again."""
    found: list[str] = []
    depth = 0
    for token in tokenize.tokenize(io.BytesIO(raw).readline):
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            depth += 1
            if depth == 1:
                found.append("f-string")
        if not depth and token.type not in LAYOUT:
            found.append(token.string)
        if name in ("FSTRING_END", "TSTRING_END"):
            depth -= 1
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_tokens_are_those_of_python(path: Path) -> None:
    source = decode_source(path, path.read_bytes())
    ours = texts(source.text)
    theirs = expected(source.raw)
    if sys.version_info >= (3, 12):
        prefixes = ('f"', "f'", 'rf"', "rf'", 'fr"', "fr'")
        ours = ["f-string" if text.lower().startswith(prefixes) else text for text in ours]
    assert ours == theirs


STRINGS = [
    '"a"', "'a\\''", '"""a"b\n"""', "r'\\\\'", "b'x'", "rb'''x'''", "''", '""""""', "'a\\\nb'", "u'x'", "Rb'x'",
    "f''", "f'{x}'", "f'{{'", "f'{x!r:>{w}}'", "f'{d[\"a\"]}'", "f'{x:\">10}'", "f'{(lambda: 1)()}'", "f'{x:%H:%M}'",
    "f'{a[\"b\"]:{c[\"d\"]}}'", "f'''{\nx\n}'''", "rf'\\{x}'", "f'\\N{DASH}{x}'", "f'{x=}'", "f'{ {1: 2}[1] }'",
    "f'{x['a']}'", "f'{f'{f'{1}'}'}'", "f'{\"}\"}'", "t'{x}'", "f'{x:{\"{\"}>10}'",
]  # fmt: skip


@pytest.mark.parametrize("string", STRINGS)
@pytest.mark.parametrize("around", ["{}", "({}, )", "a({}).b", "{} # c", "x = {}; y"])
def test_a_string_is_one_token(string: str, around: str) -> None:
    text = around.replace("{}", string)
    before, after = around.split("{}")
    assert texts(text) == [*texts(before), string, *texts(after)]


def test_what_is_no_string_is_an_error() -> None:
    for text in ("'abc\n'", '"', "'''abc", "f'{x", "f'{", "f'", "b'\n'"):
        assert any(token.kind == "error" for token in lex(text)), text


def test_fragments_line_ends_and_continuations() -> None:
    assert texts(") , b = 1\r\\\rc") == [")", ",", "b", "=", "1", "c"]
    assert [token.line for token in lex("a\r(b\r\nc)\nd\fe")] == [0, 1, 1, 1, 1, 2, 2]
    assert texts("x.1.0if y else 1e-3j or 0xFFor 1_0 ... 变量 -> :=") == [
        "x", ".1", ".0", "if", "y", "else", "1e-3j", "or", "0xFF", "or", "1_0", "...", "变量", "->", ":=",
    ]  # fmt: skip


def test_brackets() -> None:
    tokens = lex(") ( [ } ] ) {")
    assert partners(tokens) == {1: 5, 5: 1, 2: 4, 4: 2}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("'a'", '"a"', True),
        ("'a\\'b'", '"a\'b"', True),
        ("U'a'", "'a'", True),
        ("b'a'", "'a'", False),
        ("f'{x}'", 'f"{x}"', True),
        ("F'{x}'", "f'{x}'", True),
        ("f'{x!r}'", "f'{x}'", False),
        ("f'{f(\"a\", b)}'", 'f"""{\n    f(\n        \'a\', b,\n    )\n}"""', True),
        ("f'{x=}'", "f'{x =}'", False),
        ("'a'", "'b'", False),
        ("0XFF", "0xff", True),
        ("1E5", "1e5", True),
        ("1e5", "100000.0", False),
        (".5", "0.5", True),
        ("5.", "5.0", True),
        ("5.E3", "5.0e3", True),
        (".5", "5.0", False),
        ("#a ", "# a", True),
        ("# a", "# b", False),
        ("'\\d'", '"\\d"', True),
    ],
)
def test_spelling(one: str, other: str, alike: bool) -> None:
    assert same(lex(one)[0], lex(other)[0]) is alike


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("'\"{}()[]#\\\n\r\f :;,=.fbru1ax!能"), max_size=40) | st.text(max_size=30))
def test_any_text_is_cut_into_tokens_and_blanks(text: str) -> None:
    position = 0
    for token in lex(text):
        between = text[position : token.start]
        assert not between.replace("\\\n", "").replace("\\\r", "").strip(" \t\f\r\n\ufeff"), between
        assert text[token.start : token.end] == token.text
        position = token.end
