"""Amounts on pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django import template
from django.conf import settings
from django.utils.translation import gettext, gettext_lazy, ngettext

from billing.models import Unit
from billing.money import NANOS, decimal_text
from catalog.models import PriceChange, PriceComponent, PriceVersion

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

register = template.Library()
_NAMES: dict[str, StrOrPromise] = {
    "call": gettext_lazy("Calls"),
    "row": gettext_lazy("Rows"),
    "input_token": gettext_lazy("Input tokens"),
    "output_token": gettext_lazy("Output tokens"),
    "compute_ms": gettext_lazy("Milliseconds of compute"),
    "byte": gettext_lazy("Bytes of the body"),
}
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
    line = " + ".join(_dimensions(price.components.all(), price.currency)) or gettext("Free")
    if price.min_charge_nanos:
        least = money(price.min_charge_nanos, price.currency)
        line = gettext("{price}, at least {amount} a run").format(price=line, amount=least)
    if price.batch_discount_bps:
        line = f"{line} · {batch_discount(price)}"
    return line


@register.filter
def batch_discount(price: PriceVersion | PriceChange) -> str:
    """Write how much less a row of a batch file costs: `batch files −50 %`."""
    whole, rest = divmod(price.batch_discount_bps, 100)
    percent = f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)
    return gettext("batch files −{percent} %").format(percent=percent)


@register.filter
def price_lines(price: PriceVersion | None) -> list[str]:
    """Write a price with a line for each dimension, and one for the minimum."""
    if price is None:
        return [gettext("No price")]
    lines = _dimensions(price.components.all(), price.currency) or [gettext("Free")]
    if price.min_charge_nanos:
        least = money(price.min_charge_nanos, price.currency)
        lines.append(gettext("At least {amount} a run").format(amount=least))
    if price.batch_discount_bps:
        lines.append(batch_discount(price))
    return lines


@register.filter
def wanted_lines(change: PriceChange) -> list[str]:
    """Write a price that somebody wants like one that is."""
    items = [
        PriceComponent(dimension=name, from_quantity=start, amount_nanos=amount, per_quantity=per)
        for name, tiers in change.components.items()
        for start, amount, per in tiers
    ]
    lines = _dimensions(items, settings.CURRENCY) or [gettext("Free")]
    if change.min_charge_nanos:
        lines.append(
            gettext("At least {amount} a run").format(amount=money(change.min_charge_nanos))
        )
    if change.batch_discount_bps:
        lines.append(batch_discount(change))
    return lines


def _dimensions(items: Iterable[PriceComponent], currency: str) -> list[str]:
    tiers: dict[str, list[PriceComponent]] = {}
    for item in items:
        tiers.setdefault(item.dimension, []).append(item)
    return [
        _tiers(sorted(found, key=lambda item: item.from_quantity), currency)
        for found in tiers.values()
        if any(item.amount_nanos for item in found)
    ]


def _tiers(items: list[PriceComponent], currency: str) -> str:
    """Write what the units of one run cost: the first ones, then those above each step."""
    parts = []
    for item, following in zip(items, [*items[1:], None], strict=True):
        part = _rate(item, currency)
        if following is not None:
            count = _count(item.dimension, following.from_quantity)
            part = gettext("{price} up to {count}").format(price=part, count=count)
        parts.append(part)
    return gettext(", then ").join(parts)


def _rate(item: PriceComponent, currency: str) -> str:
    """Write amount and unit, for as many units as make a price that can be read."""
    if not item.amount_nanos:
        return gettext("free")
    one, many, scale = _units(item.dimension)
    amount, per = item.amount_nanos, item.per_quantity
    if scale > 1 and amount * scale % per == 0:
        amount, per = amount * scale // per, scale
    count = per // scale if per % scale == 0 else per
    if per % scale:
        # Such a price cannot be said for the larger unit; say it for the one that is counted.
        one, many, _scale = _units(item.dimension, is_plain=True)
    unit = one if count == 1 else many.format(count=f"{count:,}")
    return f"{money(amount, currency)} / {unit}"


def dimension_name(dimension: str) -> StrOrPromise:
    """Return what is counted, for a list to choose from; lazily translated."""
    return _NAMES[dimension]


def _count(dimension: str, quantity: int) -> str:
    if dimension == "compute_ms":
        return gettext("{count} ms").format(count=f"{quantity:,}")
    return f"{quantity:,}"


def _units(dimension: str, *, is_plain: bool = False) -> tuple[str, str, int]:
    """Return a unit in the singular and the plural, and how many are counted for one of it."""
    plain = {
        "row": (gettext("row"), gettext("{count} rows"), 1),
        "call": (gettext("call"), gettext("{count} calls"), 1),
        "compute_ms": (gettext("millisecond"), gettext("{count} milliseconds"), 1),
        "input_token": (gettext("input token"), gettext("{count} input tokens"), 1),
        "output_token": (gettext("output token"), gettext("{count} output tokens"), 1),
        "byte": (gettext("byte"), gettext("{count} bytes"), 1),
    }
    large = {
        "compute_ms": (gettext("second"), gettext("{count} seconds"), 1000),
        "input_token": (
            gettext("million input tokens"),
            gettext("{count} million input tokens"),
            1_000_000,
        ),
        "output_token": (
            gettext("million output tokens"),
            gettext("{count} million output tokens"),
            1_000_000,
        ),
        "byte": (gettext("MB"), gettext("{count} MB"), 1_000_000),
    }
    return plain[dimension] if is_plain else large.get(dimension, plain[dimension])
