"""The page of all findings, from their own files: `python -m energy_patch.diagnose.document > docs/findings.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from energy_patch.diagnose.check import MARK, Check, Example
from energy_patch.diagnose.checks import checks

OPENING = """\
# Findings

What `energy-patch diagnose` can find, the weightiest first. Each was read in the text of the script and of the modules
beside it; nothing is run. Where something cannot be followed, `diagnose` says so and leaves the finding out.

This page is made from the files in `energy_patch/diagnose/checks/` by
`python -m energy_patch.diagnose.document > docs/findings.md`; their examples are their tests.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([OPENING, *(_section(check) for check in checks())])


def _section(check: Check) -> str:
    first, *more = check.speaks
    parts = [
        f"## {check.name}",
        f"{check.title[0].upper()}{check.title[1:]}. {check.why}",
        "**Fix:** " + check.cure.replace("\n", "  \n"),
        f"It speaks on the line marked `{MARK}` ({first.what}):",
        *_shown(first),
        *([_listed("It also speaks where:", more)] if more else []),
        _listed("It is silent where:", check.silent),
    ]
    return "\n\n".join(parts) + "\n"


def _listed(opening: str, examples: Sequence[Example]) -> str:
    return "\n\n".join([opening, "\n".join(f"- {example.what}" for example in examples)])


def _shown(example: Example) -> Iterator[str]:
    for name, text in example.files.items():
        yield f"`{name}`:\n\n```python\n{text}```"
    yield f"```python\n{example.script}```"


if __name__ == "__main__":
    print(page(), end="")
