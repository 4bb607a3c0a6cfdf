"""Invoices on pages."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from billing import currencies
from billing.models import Invoice
from billing.templatetags.money import money

register = template.Library()

STATES = {
    "finalised": ("warn", _("Open")),
    "paid": ("good", _("Paid")),
    "voided": ("plain", _("Void")),
    "uncollectible": ("bad", _("Not collected")),
}
LINES = {
    "rest": _("Other models and keys"),
    "credit": _("Paid with credit"),
    "deferred": _("Billed next month"),
    "late": _("Used in {month}"),
    "carried_in": _("Carried from last month"),
    "carried_out": _("Carried to next month"),
}


@register.filter
def invoice_state(state: str) -> str:
    """Write the state of an invoice in words."""
    return gettext(STATES[state][1]) if state in STATES else state


@register.filter
def invoice_kind(state: str) -> str:
    """Return the colour of an invoice's state."""
    return STATES[state][0] if state in STATES else "plain"


@register.filter
def coins(minor: int, currency: str) -> str:
    """Write an amount of coins: 1234 → $12.34."""
    sign, symbol = "−" if minor < 0 else "", money(0, currency).removesuffix("0.00")
    return f"{sign}{symbol}{currencies.text(abs(minor), currency)}"


@register.filter
def line_title(line: Mapping[str, str]) -> str:
    """Return what a line of an invoice is about."""
    if line["kind"] == "usage":
        return line["model"] or gettext("Training")
    return gettext(LINES[line["kind"]]).format(month=line["model"])


@register.filter
def left_to_pay(invoice: Invoice) -> int:
    """Return what of an invoice is to be paid, in coins."""
    return invoice.total_minor - invoice.credited_minor
