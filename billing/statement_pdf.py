"""An invoice as PDF, from its frozen statement alone: the same bytes each time.

Nothing is stored: a file could be lost, or written over with somebody else's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from billing.statement_texts import TEXTS, Language, line_text

if TYPE_CHECKING:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfgen.canvas import Canvas
    from reportlab.platypus import Flowable

# Built into PDF readers: no font file is needed, and none is embedded.
_CHINESE = "STSong-Light"
_LATIN, _LATIN_BOLD = "Helvetica", "Helvetica-Bold"
_INK, _SOFT, _LINE = "#1a1c1f", "#5c5f66", "#cfcbc1"
_MARGIN = 56
# What the frame of a page adds to its margin.
_PADDING = 6
_WIDTHS = (259, 60, 92, 72)


def render(frozen: Mapping[str, Any], sha256: str, language: Language) -> bytes:
    """Return the PDF of a frozen statement.

    Args:
        sha256: Of the statement; printed at its end.
        language: Of the fixed words; names are as they were frozen.
    """
    # A tenth of a second of imports that most processes never need.
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import SimpleDocTemplate

    pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE))
    words = TEXTS[language]
    target = io.BytesIO()
    document = SimpleDocTemplate(
        target,
        pagesize=A4,
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"{words['title']} {frozen['number']}",
        author=frozen["seller"]["name"],
        lang="zh-CN" if language == "zh" else "en",
        # No time of making, no random id.
        invariant=1,
    )

    def number_page(canvas: Canvas, _: Any) -> None:
        canvas.setFont(_CHINESE if language == "zh" else _LATIN, 8)
        canvas.setFillColor(_SOFT)
        canvas.drawString(_MARGIN, _MARGIN // 2, frozen["number"])
        page = words["page"].format(page=canvas.getPageNumber())
        canvas.drawRightString(A4[0] - _MARGIN, _MARGIN // 2, page)

    story = [*_head(frozen, language), _lines(frozen, language), *_foot(frozen, sha256, language)]
    document.build(story, onFirstPage=number_page, onLaterPages=number_page)
    return target.getvalue()


def _style(size: int, *, bold: bool = False, soft: bool = False, right: bool = False) -> Any:
    from reportlab.lib.enums import TA_LEFT, TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle

    style: ParagraphStyle = ParagraphStyle(
        "text",
        fontName=_LATIN_BOLD if bold else _LATIN,
        fontSize=size,
        leading=size * 7 // 5,
        textColor=_SOFT if soft else _INK,
        alignment=TA_RIGHT if right else TA_LEFT,
    )
    return style


def _text(text: str, size: int = 9, **look: bool) -> Flowable:
    """Set a text; in the font that has its characters."""
    from reportlab.platypus import Paragraph

    style = _style(size, **look)
    if not _is_latin(text):
        # Chinese has no spaces to break lines at.
        style.fontName, style.wordWrap = _CHINESE, "CJK"
    return Paragraph(escape(text).replace("\n", "<br/>"), style)


def _is_latin(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _head(frozen: Mapping[str, Any], language: Language) -> list[Flowable]:
    from reportlab.platypus import Spacer, Table

    words, seller, customer = TEXTS[language], frozen["seller"], frozen["customer"]
    period = frozen["period"]
    facts = [
        (words["number"], frozen["number"]),
        (words["issued"], frozen["issued_at"][:10]),
        (words["month"], f"{period['month']} ({words['utc']})"),
    ]
    address = [seller["name"], seller["address"].replace("\\n", "\n")]
    if seller["tax_id"]:
        address.append(f"{words['tax_id']}: {seller['tax_id']}")
    parties = Table(
        [
            [_text(words["from"], 8, soft=True), _text(words["to"], 8, soft=True)],
            [
                _text("\n".join(filter(None, address))),
                _text(f"{customer['name']}\n{customer['slug']}"),
            ],
        ],
        colWidths=(241, 242),
        style=[("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)],
    )
    said = Table(
        [[_text(name, 8, soft=True), _text(value)] for name, value in facts],
        colWidths=(90, 393),
        style=[("LEFTPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)],
    )
    title = [_text(words["title"], 20, bold=True)]
    if not frozen["stripe"]["live"]:
        title += [Spacer(1, 6), _text(words["test"], bold=True)]
    return [*title, Spacer(1, 18), said, Spacer(1, 14), parties, Spacer(1, 20)]


def _lines(frozen: Mapping[str, Any], language: Language) -> Flowable:
    from reportlab.platypus import LongTable

    words, currency = TEXTS[language], frozen["currency"].upper()
    heads = [words["what"], words["calls"], words["exact"], f"{words['amount']} ({currency})"]
    rows = [[_text(head, 8, soft=True, right=place > 0) for place, head in enumerate(heads)]]
    for line in frozen["lines"]:
        calls = str(line["calls"]) if line["calls"] else ""
        numbers = [calls, line["exact"], line["amount"]]
        rows.append(
            [_text(line_text(line, language)), *(_text(each, right=True) for each in numbers)]
        )
    sums = [("subtotal", False), ("tax", False), ("total", True)]
    for name, bold in sums:
        rows.append(
            [
                _text(words[name], bold=bold),
                "",
                "",
                _text(frozen[name], bold=bold, right=True),
            ]
        )
    return LongTable(
        rows,
        colWidths=_WIDTHS,
        repeatRows=1,
        style=[
            ("LINEBELOW", (0, 0), (-1, 0), 1, _INK),
            ("LINEBELOW", (0, 1), (-1, -4), 1, _LINE),
            ("LINEABOVE", (0, -3), (-1, -3), 1, _INK),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (0, -1), 0),
            ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
        ],
    )


def _foot(frozen: Mapping[str, Any], sha256: str, language: Language) -> list[Flowable]:
    from reportlab.platypus import Spacer

    words = TEXTS[language]
    said = [words["rounding"]]
    if frozen["stripe"]["number"]:
        said.append(words["stripe"].format(number=frozen["stripe"]["number"]))
    said.append(f"{words['digest']}: {sha256}")
    return [Spacer(1, 16), *(_text(each, 8, soft=True) for each in said)]
