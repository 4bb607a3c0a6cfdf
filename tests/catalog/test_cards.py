"""Markdown of strangers becomes harmless HTML."""

from __future__ import annotations

import pytest

from catalog import cards


@pytest.mark.parametrize(
    ("markdown", "forbidden"),
    [
        ("<script>alert(1)</script>", "<script"),
        ("[a](javascript:alert(1))", "<a"),
        ("![x](https://elsewhere.example/x.png)", "<img"),
        ('<a href="#" onclick="x()">a</a>', "<a"),
        ("<style>*{display:none}</style>", "<style"),
    ],
)
def test_nothing_harmful_passes(markdown: str, forbidden: str) -> None:
    assert forbidden not in cards.render(markdown)


def test_headings_begin_below_the_title_of_the_page() -> None:
    assert cards.render("# One\n\n## Two") == "<h2>One</h2>\n<h3>Two</h3>\n"


def test_tables_and_links_are_kept() -> None:
    html = cards.render("| a | b |\n|---|---|\n| 1 | 2 |\n\n[here](https://example.org)")

    assert "<td>1</td>" in html
    assert 'href="https://example.org"' in html
    assert 'rel="noopener noreferrer"' in html
