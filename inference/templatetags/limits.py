"""Limits on pages that other apps make."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from accounts.models import ApiKey, Organization
from inference.limits import live
from inference.limits.live import LiveLimit

register = template.Library()
UNITS = {
    "requests": _("Requests per minute"),
    "rows": _("Rows per minute"),
    "concurrency": _("Requests at a time"),
}


@register.filter
def limit_unit(unit: str) -> str:
    """Write what a limit counts in words."""
    return gettext(UNITS[unit]) if unit in UNITS else unit


@register.simple_tag
def limits_of(organization: Organization, key: ApiKey | None = None) -> list[LiveLimit]:
    """Return the limits that bind a key, or the organization, with their use."""
    return live.of(organization, key)
