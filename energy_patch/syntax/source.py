"""One script's bytes: encoding, line ends, and the offsets that its text is spliced at."""

from __future__ import annotations

import ast
import codecs
import io
import re
import tokenize
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from energy_patch.refusal import Refusal

LINE_END = re.compile(r"\r\n|\r|\n")
RAW_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True)
class Source:
    """A script as read: `text` is decoded, without the byte order mark, its line ends untouched."""

    path: Path
    raw: bytes
    text: str
    encoding: str
    byte_order_mark: bytes

    def encode(self, text: str) -> bytes:
        """The bytes of an edited text, in the script's own encoding."""
        return self.byte_order_mark + text.encode(self.encoding)

    @cached_property
    def line_starts(self) -> list[int]:
        """Offset of every line's first character, by Python's own line ends (CR LF, CR, LF)."""
        return [0, *(match.end() for match in LINE_END.finditer(self.text))]

    def line_of(self, offset: int) -> int:
        """The 1-based line that holds a character offset."""
        return bisect_right(self.line_starts, offset)

    def line_start(self, offset: int) -> int:
        """Offset of the first character of the line that holds `offset`."""
        return self.line_starts[self.line_of(offset) - 1]

    def line_end(self, offset: int) -> int:
        """Offset just before the line end of the line that holds `offset`."""
        match = LINE_END.search(self.text, offset)
        return match.start() if match else len(self.text)

    def next_line(self, offset: int) -> int:
        """Offset of the first character of the next line; the text's length on the last one."""
        match = LINE_END.search(self.text, offset)
        return match.end() if match else len(self.text)

    def newline_at(self, offset: int) -> str:
        """The line end in use around `offset`: this line's, else the one before it, else LF."""
        match = LINE_END.search(self.text, offset)
        if match is None:
            before = LINE_END.findall(self.text)
            return before[-1] if before else "\n"
        return match.group()

    def line_text(self, line: int) -> str:
        """A 1-based line without its line end."""
        start = self.line_starts[line - 1]
        return self.text[start : self.line_end(start)]


def read_source(path: Path) -> Source:
    """Read a script and prove that its bytes survive decoding and encoding.

    Raises:
        Refusal: `unreadable`, with what was found instead of Python text.
    """
    if path.is_dir():
        raise Refusal("unreadable", "is a folder without Python files; name the training script")
    if path.exists() and not path.is_file():
        raise Refusal("unreadable", "is not a regular file; name the training script")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise Refusal("unreadable", "no such file; check the path") from None
    except OSError as error:
        raise Refusal("unreadable", f"cannot be read ({error.strerror}); check its permissions") from None
    return decode_source(path, raw)


def decode_source(path: Path, raw: bytes) -> Source:
    """Decode a script's bytes by its byte order mark or PEP 263 cookie.

    Raises:
        Refusal: `unreadable`, where the bytes are not text in the encoding that they declare.
    """
    if b"\0" in raw:
        raise Refusal("unreadable", "holds NUL bytes, so it is not a Python script; name a .py text file")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(RAW_LINE_END.sub(b"\n", raw)).readline)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Refusal("unreadable", f"its encoding cannot be told ({error}); save it as UTF-8", line=1) from None
    mark = codecs.BOM_UTF8 if raw.startswith(codecs.BOM_UTF8) else b""
    encoding = "utf-8" if encoding == "utf-8-sig" else encoding
    body = raw[len(mark) :]
    try:
        text = body.decode(encoding)
        exact = text.encode(encoding) == body
    except UnicodeDecodeError as error:
        line = len(RAW_LINE_END.findall(body, 0, error.start)) + 1
        message = f"byte {error.object[error.start]:#04x} is not {encoding}; save it as UTF-8 or declare its encoding"
        raise Refusal("unreadable", message, line=line) from None
    except (UnicodeError, LookupError) as error:  # Python knows "encodings" that are none of text, such as rot13
        raise Refusal("unreadable", f"is not {encoding} ({error}); save it as UTF-8") from None
    if not exact:
        raise Refusal("unreadable", f"does not survive decoding as {encoding}; save it as UTF-8")
    return Source(path, raw, text, encoding, mark)


def check_compiles(source: Source) -> None:
    """Have Python itself read the script; it is compiled, never run.

    Raises:
        Refusal: `unreadable`, with the line of the syntax error.
    """
    try:
        _compile(source.raw)
    except SyntaxError as error:
        message = f"is not valid Python ({error.msg}); fix the syntax first"
        raise Refusal("unreadable", message, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise Refusal("unreadable", f"cannot be compiled ({error}); fix it first") from None


@lru_cache(maxsize=64)
def _compile(raw: bytes) -> None:
    with silent():
        compile(raw, "script", "exec", dont_inherit=True)


@lru_cache(maxsize=64)
def parse(code: str | bytes) -> ast.Module:
    """Python's own syntax tree of some code; it is not to be changed, since whoever asks again gets the same one.

    Raises:
        SyntaxError, ValueError, RecursionError: it is not Python.
    """
    with silent():
        return ast.parse(code)


@contextmanager
def silent() -> Iterator[None]:
    """Without a word about doubtful escapes, which are the user's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
