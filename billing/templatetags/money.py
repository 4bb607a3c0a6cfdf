"""Amounts on pages."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext, ngettext

from billing.models import Unit
from billing.money import NANOS, decimal_text
from catalog.models import PriceVersion

register = template.Library()
_SYMBOLS = {"usd": "$", "eur": "€", "cny": "¥"}


@register.filter
def money(nanos: int | None, currency: str = "usd") -> str:
    """Write an amount exactly, with at least two decimals: $0.00002, $5.00."""
    if nanos is None:
        return ""
    whole, _, fraction = decimal_text(abs(nanos)).partition(".")
    sign = "−" if nanos < 0 else ""
    return f"{sign}{_SYMBOLS.get(currency, '')}{whole}.{fraction.ljust(2, '0')}"


@register.filter
def money2(nanos: int | None, currency: str = "usd") -> str:
    """Write a total with two decimals, rounded down: a balance must not look larger than it is."""
    if nanos is None:
        return ""
    cents = abs(nanos) // (NANOS // 100)
    sign = "−" if nanos < 0 else ""
    return f"{sign}{_SYMBOLS.get(currency, '')}{cents // 100}.{cents % 100:02d}"


@register.filter
def cap(amount: int | None, unit: str) -> str:
    """Write an amount of a cap: money, or a number of calls."""
    if amount is None:
        return gettext("No limit")
    if unit == Unit.CALLS:
        return ngettext("%(count)d call", "%(count)d calls", amount) % {"count": amount}
    return money(amount)


@register.filter
def price_line(price: PriceVersion | None) -> str:
    """Write a price in one line: `$0.00002 / row`."""
    if price is None:
        return gettext("No price")
    units = {
        "row": (gettext("row"), gettext("{count} rows"), 1),
        "call": (gettext("call"), gettext("{count} calls"), 1),
        "compute_ms": (gettext("second"), gettext("{count} seconds"), 1000),
        "input_token": (gettext("input token"), gettext("{count} input tokens"), 1),
        "output_token": (gettext("output token"), gettext("{count} output tokens"), 1),
        "byte": (gettext("byte"), gettext("{count} bytes"), 1),
    }
    parts = []
    for item in price.components.all():
        if item.amount_nanos == 0:
            continue
        one, many, scale = units[item.dimension]
        count = item.per_quantity // scale or 1
        unit = one if count == 1 else many.format(count=count)
        part = f"{money(item.amount_nanos, price.currency)} / {unit}"
        if item.from_quantity:
            part = gettext("{price} above {count}").format(price=part, count=item.from_quantity)
        parts.append(part)
    return " + ".join(parts) or gettext("Free")
