"""Every byte outside the edits stays, whatever the script's bytes are.

The oracle is one plain script and its patch: a variant rewrites both (line ends, indentation, odd bytes), and patching
the rewritten script must give the rewritten patch.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from tests.conftest import Command, snapshot

PLAIN = '''\
#!/usr/bin/env python
# COOKIE
"""Fine-tunes a policy and an energy model."""

import os
import torch
from dataclasses import dataclass

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
# QUIRK 1

LAYERS = {"first": 0, \\
    "last": -1}


# fmt: off
@dataclass
class FinetuneConfig:
    vla_path: str = "openvla/openvla-7b"             # Path to the model
    batch_size: int = 8                              # QUIRK 2
    # fmt: on


class Policy:
    # QUIRK 3
    def forward(self, batch):
        if batch is None:
            return None
        return batch["hidden"], batch["mask"]


def run_forward_pass(
    vla,
    energy_model,
    batch,
    use_proprio=False,  # QUIRK 4
):
    try:
        hidden, mask = vla.forward(batch)
    except RuntimeError:
        raise
    # loss = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"])
    with torch.autocast("cuda", enabled=False):
        # QUIRK 5
        loss, positive, negative = energy_inbatch_swap_infonce(
            energy_model,
            hidden,
            batch["actions"],
            mask
        )
    return loss, positive, negative, """QUIRK 6
    of several lines"""


def finetune(cfg: FinetuneConfig, vla, loader):
    energy_model = EnergyModel(7, 64).to(0)  # QUIRK 7
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-4)
    for step, batch in enumerate(loader):
        loss, *rest = run_forward_pass(vla, energy_model, batch, use_proprio=True)
        loss.backward()
        # QUIRK 8
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return os.getcwd()


if __name__ == "__main__":
    finetune(FinetuneConfig(), Policy(), [])
'''


def patch(energy_patch: Command, script: Path, raw: bytes, *options: str) -> bytes:
    """The patched bytes; on the way the patch is shown to compile, to be complete and to be reversible."""
    script.write_bytes(raw)
    applied = energy_patch("apply", *options, script)
    assert applied.exit_code == 0, applied.stderr
    patched = script.read_bytes()
    compile(patched, script, "exec")
    before = snapshot(script.parent)
    assert energy_patch("apply", *options, "--json", script).json["outcome"] == "already-applied"
    assert snapshot(script.parent) == before
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(script.parent) == {script.name: raw}
    return patched


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.conftest import run_command

    script = tmp_path_factory.mktemp("plain") / "train.py"
    return patch(run_command, script, PLAIN.encode()).decode()


def replaced(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def rewrite(text: str) -> str:
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        return text

    return rewrite


def indented(unit: str) -> Callable[[str], str]:
    def rewrite(text: str) -> str:
        return re.sub(r"(?m)^(?:    )+", lambda match: unit * (len(match[0]) // 4), text)

    return rewrite


QUIRKS = [f"QUIRK {number}" for number in range(1, 9)]

TEXTS: dict[str, Callable[[str], str]] = {
    "CRLF": replaced(("\n", "\r\n")),
    "CR": replaced(("\n", "\r")),
    "tabs": indented("\t"),
    "two spaces": indented("  "),
    "three spaces": indented("   "),
    "tab, CRLF": lambda text: indented("\t")(text).replace("\n", "\r\n"),
    "Chinese comments": replaced(*((quirk, f"旧的损失 {quirk} 🤖") for quirk in QUIRKS)),
    "trailing blanks": replaced(*((quirk, f"{quirk}  \t ") for quirk in QUIRKS)),
    "form feeds in comments": replaced(*((quirk, f"\f{quirk}\f") for quirk in QUIRKS)),
    "line separators": replaced(*((quirk, f"a\u2028b\u2029c\x85d {quirk}") for quirk in QUIRKS)),
    "file separators": replaced(*((quirk, f"a\x1cb\x1dc\x1ed\x0b {quirk}") for quirk in QUIRKS)),
    "form feed lines": replaced(("\n\ndef ", "\n\f\ndef "), ("\n\nclass ", "\n\f\nclass ")),
    "form feeds at column 0": replaced(("\ndef ", "\n\fdef "), ("\nfrom energy.", "\n\ffrom energy.")),
    "blanks before form feeds": replaced(("\ndef ", "\n    \fdef "), ("\nimport os", "\n \f\fimport os")),
    "form feeds in indentation": replaced(
        ("\n        loss.backward", "\n  \f        loss.backward"),
        ("\n        optimizer.step", "\n\f        optimizer.step"),
    ),
    "form feeds between tokens": replaced(
        ("for step, batch in", "for\fstep,\fbatch \f in"), ('\\\n    "last', '\\\n  \f  "last')
    ),
    "blank before a colon": replaced(("except RuntimeError:", "except RuntimeError :")),
    "blanks everywhere": replaced(
        ("def finetune(cfg", "def  finetune ( cfg"),
        ("optimizer.step()", "optimizer . step ( )"),
        ("raise\n", "raise ;\n"),
    ),
    "no final newline": lambda text: text.removesuffix("\n"),
    "blank last line": lambda text: text + "    ",
    "comment at the end": lambda text: text + "# the end",
    "many final newlines": lambda text: text + "\n\n   \n\n",
    "continued lines": replaced(
        ("energy_model = EnergyModel(7, 64)", "energy_model = \\\n        EnergyModel(7, 64)"),
        ("optimizer.step()", "optimizer \\\n    .step()"),
        ("import os\n", "import \\\n  os\n"),
    ),
    "blank first line": lambda text: "\n" + text,
    "only one line above": lambda text: text.split("# COOKIE\n")[1],
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_text(name: str, plain: str, tmp_path: Path, energy_patch: Command) -> None:
    rewrite = TEXTS[name]
    patched = patch(energy_patch, tmp_path / "train.py", rewrite(PLAIN).encode())
    assert patched.decode() == rewrite(plain)


CHINESE = [(quirk, f"旧的损失 {quirk}") for quirk in QUIRKS]
FRENCH = [(quirk, f"déjà vu ÿ {quirk}") for quirk in QUIRKS]
ENCODINGS = {
    "UTF-8 by cookie": (replaced(("# COOKIE", "# -*- coding: utf-8 -*-"), *CHINESE), "utf-8", b""),
    "byte order mark": (replaced(*CHINESE), "utf-8", codecs.BOM_UTF8),
    "byte order mark and cookie": (replaced(("COOKIE", "coding=utf-8"), *CHINESE), "utf-8", codecs.BOM_UTF8),
    "byte order mark, CRLF": (replaced(*CHINESE, ("\n", "\r\n")), "utf-8", codecs.BOM_UTF8),
    "latin-1": (replaced(("# COOKIE", "# vim: set fileencoding=latin-1 :"), *FRENCH), "latin-1", b""),
    "iso-8859-15, CRLF": (replaced(("COOKIE", "coding: iso-8859-15"), ("\n", "\r\n"), *FRENCH), "iso-8859-15", b""),
    "cp1252, CR": (replaced(("COOKIE", "coding: cp1252"), ("\n", "\r"), *FRENCH), "cp1252", b""),
    "gbk": (replaced(("COOKIE", "coding: gbk"), *CHINESE), "gbk", b""),
    "gb18030, CRLF": (replaced(("COOKIE", "coding: gb18030"), ("\n", "\r\n"), *CHINESE), "gb18030", b""),
    "big5": (replaced(("COOKIE", "coding: big5"), *[(quirk, f"損失功 {quirk}") for quirk in QUIRKS]), "big5", b""),
    "shift_jis": (
        replaced(("COOKIE", "coding: shift_jis"), *[(quirk, f"表ソ {quirk}") for quirk in QUIRKS]),
        "shift_jis",
        b"",
    ),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_encoding(name: str, plain: str, tmp_path: Path, energy_patch: Command) -> None:
    rewrite, encoding, mark = ENCODINGS[name]
    patched = patch(energy_patch, tmp_path / "train.py", mark + rewrite(PLAIN).encode(encoding))
    assert patched == mark + rewrite(plain).encode(encoding)


def test_mixed_line_ends(plain: str, tmp_path: Path, energy_patch: Command) -> None:
    """Every old line keeps its end; a new one takes one that stands beside it."""
    ends = ["\n", "\r\n", "\r", "\r\n", "\n"]
    lines = PLAIN.split("\n")[:-1]
    original = "".join(line + ends[place % 5] for place, line in enumerate(lines))
    patched = patch(energy_patch, tmp_path / "train.py", original.encode()).decode()
    got = re.findall(r"([^\r\n]*)(\r\n|\r|\n)", patched)
    assert [line for line, _ in got] == plain.split("\n")[:-1]
    end_of = [end for _, end in got]
    old_ends = [ends[place % 5] for place in range(len(lines))]
    for tag, start, stop, new_start, new_stop in SequenceMatcher(None, lines, [line for line, _ in got]).get_opcodes():
        new_ends = end_of[new_start:new_stop]
        if tag == "equal":
            assert new_ends == old_ends[start:stop]
        else:
            assert set(new_ends) <= {end_of[new_start - 1], *old_ends[start:stop]}


def test_ten_thousand_lines(plain: str, tmp_path: Path, energy_patch: Command) -> None:
    filler = "".join(
        f"def helper_{number}(x, y=(1, 2)):\n    # 第 {number} 个\n    return x + y[0]\n\n" for number in range(2500)
    )

    def rewrite(text: str) -> str:
        return text.replace("class Policy", filler + "class Policy")

    script = tmp_path / "train.py"
    script.write_text(rewrite(PLAIN), "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    assert script.read_text("utf-8") == rewrite(plain)
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_text("utf-8") == rewrite(PLAIN)


def test_an_encoding_that_cannot_hold_the_patch_is_never_garbled(tmp_path: Path, energy_patch: Command) -> None:
    """UTF-7 and other encodings that do not survive decoding, or UTF-16, are refused."""
    script = tmp_path / "train.py"
    for raw in (
        PLAIN.replace("COOKIE", "coding: utf-7").replace("QUIRK 1", "+AGE-").encode("ascii"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("COOKIE", "coding: latin-1").encode("utf-8-sig"),
        PLAIN.replace("QUIRK 1", "\x00").encode(),
    ):
        script.write_bytes(raw)
        ran = energy_patch("apply", "--json", script)
        assert (ran.exit_code, ran.json["scripts"][0]["reason"]) == (1, "unreadable")
        assert snapshot(tmp_path) == {"train.py": raw}


@pytest.mark.parametrize(
    "line",
    [
        "print('x')\n    \\\n        ",  # a continued line that holds nothing
    ],
)
def test_a_layout_that_cannot_be_edited_exactly_is_refused(line: str, tmp_path: Path, energy_patch: Command) -> None:
    head = "from e import energy_inbatch_swap_infonce\ndef run(m, h, a):\n    "
    text = f"{head}{line}energy_inbatch_swap_infonce(m, h, a)\n"
    script = tmp_path / "train.py"
    script.write_text(text)
    compile(text, "train.py", "exec")
    ran = energy_patch("apply", "--no-sync", "--json", script)
    answer = ran.json["scripts"][0]
    assert (ran.exit_code, answer["reason"]) == (1, "unsupported")
    assert answer["line"]
    assert snapshot(tmp_path) == {"train.py": text.encode()}
