"""Pages that are made from the code are as the code is now."""

from __future__ import annotations

from pathlib import Path

from tests.refusals_page import Site, examples, page, sites

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_refusals_is_up_to_date() -> None:
    """Written by `python -m tests.refusals_page > docs/refusals.md`."""
    assert (DOCS / "refusals.md").read_text("utf-8") == page()


def test_every_example_stands_on_the_page_once() -> None:
    text = page()
    assert len(examples()) > 30
    for example in examples():
        assert text.count(f"/{example.name})") == 1, example.name


def test_a_message_is_told_from_others_by_its_words() -> None:
    site = Site("conflict", "the call passes ..., and ... was given")
    assert site.says("the call passes tau=1, and --tau was given")
    assert not site.says("the call passes tau=1, and --tau was given twice")
    assert len(sites()) > 50
