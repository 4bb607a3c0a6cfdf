"""What receipts and statements say in words."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext, ngettext

from billing.receipts import Line
from billing.templatetags.money import money
from billing.templatetags.units import duration

register = template.Library()


@register.filter
def units_used(line: Line) -> str:
    """Write how much of a dimension was used: `3 rows`, `12.5 s of compute`."""
    if line.dimension == "compute_ms":
        return gettext("%(time)s of compute") % {"time": duration(line.units * 1000)}
    words = {
        "row": ngettext("%(count)s row", "%(count)s rows", line.units),
        "call": ngettext("%(count)s call", "%(count)s calls", line.units),
        "input_token": ngettext("%(count)s input token", "%(count)s input tokens", line.units),
        "output_token": ngettext("%(count)s output token", "%(count)s output tokens", line.units),
        "byte": ngettext("%(count)s byte", "%(count)s bytes", line.units),
    }
    return words[line.dimension] % {"count": line.units}


@register.filter
def unit_price(line: Line, currency: str = "usd") -> str:
    """Write the price of a line: `$0.00002`, `$1.00 / 1000`."""
    amount, per = money(line.amount_nanos, currency), line.per_quantity
    if line.dimension == "compute_ms":
        if per == 1000:
            return gettext("%(amount)s / second") % {"amount": amount}
        return gettext("%(amount)s / %(count)s ms") % {"amount": amount, "count": per}
    return amount if per == 1 else f"{amount} / {per}"


@register.filter
def short_hash(digest: str) -> str:
    """Write the beginning of a digest, which is enough to compare by eye."""
    return f"{digest[:12]}…" if digest else "–"
