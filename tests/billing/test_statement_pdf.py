from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import Any

import pytest

from billing import invoices, statement_pdf
from billing.statement_texts import TEXTS, Language, line_text

FROZEN: dict[str, Any] = {
    "version": 1,
    "number": "INV-2026-000007",
    "issued_at": "2026-02-01T00:08:00+00:00",
    "currency": "usd",
    "seller": {"name": "Mercato", "address": "1 Main Street\nSpringfield", "tax_id": "EU123"},
    "customer": {"name": "上海 <Acme> & Söhne", "slug": "acme"},
    "period": {"month": "2026-01", "from": "2026-01-01", "until": "2026-02-01"},
    "lines": [
        {
            "kind": "usage",
            "model": "mercato/mnist-cnn:1",
            "key": "production",
            "calls": 61728,
            "exact": "1.23456",
            "amount": "1.24",
        },
        {
            "kind": "usage",
            "model": "",
            "key": "",
            "calls": 1,
            "exact": "0.5",
            "amount": "0.50",
        },
        {"kind": "late", "model": "2025-12", "key": "", "calls": 0, "exact": "0", "amount": "0"},
        {
            "kind": "carried_out",
            "model": "",
            "key": "",
            "calls": 0,
            "exact": "-0.00456",
            "amount": "-0.01",
        },
    ],
    "used": "1.73456",
    "carried_in": "0",
    "carried_out": "0.00456",
    "subtotal": "1.73",
    "tax": "0.00",
    "total": "1.73",
    "stripe": {"invoice": "in_1", "number": "FAKE-0001", "live": True},
}
# Of the PDFs of the statement above: they must never change, whatever else does.
GOLDEN: dict[Language, str] = {
    "en": "a0e5793f451d41a347cda0ced7f93567cff3376bdad5594c04307c4884bece41",
    "zh": "7bda5a1f538799c6e882f00107d8704ba392dda4e2d2fdccbff9145db3b2616d",
}


def render(language: Language, frozen: dict[str, Any] | None = None) -> bytes:
    frozen = frozen or FROZEN
    return statement_pdf.render(frozen, invoices.digest(frozen), language)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_same_statement_gives_the_same_bytes(language: Language) -> None:
    """Invariant 27: the PDF of a frozen statement is the same file for ever."""
    first, second = render(language), render(language)

    assert first == second
    assert first.startswith(b"%PDF-1.")
    assert hashlib.sha256(first).hexdigest() == GOLDEN[language]


def test_the_languages_differ_and_name_a_font_that_readers_have() -> None:
    english, chinese = render("en"), render("zh")

    assert english != chinese
    assert b"/STSong-Light" in chinese
    assert b"/Lang (zh-CN)" in chinese
    # The customer's name has Chinese characters in both.
    assert b"/STSong-Light" in english


def test_every_text_exists_in_both_languages() -> None:
    english, chinese = TEXTS["en"], TEXTS["zh"]

    assert english.keys() == chinese.keys()
    assert all(re.search("[\u4e00-\u9fff]", text) for text in chinese.values())
    places = re.compile(r"{\w+}")
    assert {name: places.findall(text) for name, text in english.items()} == {
        name: places.findall(text) for name, text in chinese.items()
    }


def test_lines_say_what_they_are() -> None:
    said = [line_text(line, "en") for line in FROZEN["lines"]]

    assert said == [
        "mercato/mnist-cnn:1 · production",
        "Training · without a key",
        "Used in 2025-12",
        "Carried to next month",
    ]


def test_a_long_statement_repeats_the_heads_on_each_page() -> None:
    line = FROZEN["lines"][0]
    frozen = FROZEN | {"lines": [line | {"model": f"org/model-{n}:1"} for n in range(150)]}

    pdf = render("en", frozen)

    assert len(re.findall(rb"/Type /Page\b", pdf)) > 2
    text = drawn(pdf)
    assert text.count("Description") == len(re.findall(rb"/Type /Page\b", pdf))
    assert "org/model-149:1" in text


def test_an_invoice_of_play_money_says_so() -> None:
    frozen = FROZEN | {"stripe": FROZEN["stripe"] | {"live": False}}

    assert "no real money" in drawn(render("en", frozen))
    assert "no real money" not in drawn(render("en"))


def test_names_cannot_write_markup() -> None:
    name = '<b>x</b><img src="http://example.com/x.png"/>&amp;'
    frozen = FROZEN | {"customer": {"name": name, "slug": "acme"}}

    text = drawn(render("en", frozen))

    # It is drawn as it is written, not obeyed.
    assert name.split(" ", 1)[0] in text.replace(") Tj (", "")


def drawn(pdf: bytes) -> str:
    """Return what the pages of a PDF draw; ours are compressed and in base 85."""
    parts = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    found = [zlib.decompress(base64.a85decode(b"<~" + each.strip(), adobe=True)) for each in parts]
    return b"\n".join(found).decode("latin-1")
