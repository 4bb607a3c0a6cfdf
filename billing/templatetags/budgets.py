"""Caps on pages and in mail."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

register = template.Library()
WINDOWS = {"day": _("Per day"), "month": _("Per month"), "lifetime": _("In total")}
UNITS = {"money": _("Money"), "calls": _("Calls")}


@register.filter
def window_name(window: str) -> str:
    """Write a window in words."""
    return gettext(WINDOWS[window]) if window in WINDOWS else window


@register.filter
def unit_name(unit: str) -> str:
    """Write what a cap counts in words."""
    return gettext(UNITS[unit]) if unit in UNITS else unit
