"""Publishers' states in words, and whether the menu has a page for them."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from billing import publisher_reports
from billing.models import Payout
from billing.money import NANOS
from billing.templatetags.money import money, money2

register = template.Library()

STATES = {
    "pending": _("Booked"),
    "sent": _("Being sent"),
    "paid": _("Paid"),
    "failed": _("Failed"),
    "reversed": _("Taken back"),
}
KINDS = {"paid": "good", "failed": "bad", "reversed": "warn"}
FAILURES = {
    "balance_insufficient": _("The site's balance at Stripe was too low; it is tried again."),
    "insufficient_capabilities_for_transfer": _("The account could not receive money."),
}
# The parts of Stripe's names of what is missing that most people meet.
MISSING = {
    "external_account": _("A bank account"),
    "verification": _("A document that proves who you are"),
    "business_profile": _("What you sell, and where"),
    "tos_acceptance": _("Your consent to Stripe's terms"),
    "address": _("An address"),
    "dob": _("A date of birth"),
    "representative": _("A person who acts for the company"),
}


@register.simple_tag(takes_context=True)
def publishes(context: dict[str, Any]) -> bool:
    """Whether the organization of the page has models or earnings; asked once per request."""
    request = context.get("request")
    organization = getattr(request, "organization", None)
    if request is None or organization is None:
        return False
    if not hasattr(request, "_publishes"):
        request._publishes = publisher_reports.is_publisher(organization)
    return bool(request._publishes)


@register.filter
def brief(nanos: int) -> str:
    """Write a total in cents, and exactly if it is less than one unit."""
    return money(nanos) if abs(nanos) < NANOS else money2(nanos)


@register.filter
def payout_state(state: str) -> str:
    """Write the state of a payout in words."""
    return gettext(STATES[state]) if state in STATES else state


@register.filter
def payout_kind(state: str) -> str:
    """Return the badge of a payout's state."""
    return KINDS.get(state, "plain")


@register.filter
def payout_failure(payout: Payout) -> str:
    """Say why a payout failed."""
    return gettext(FAILURES[payout.failure]) if payout.failure in FAILURES else payout.failure


@register.filter
def missing(requirements: list[str]) -> list[str]:
    """Write what Stripe still wants in words, each once; what is not known stays Stripe's name."""
    found: dict[str, None] = {}
    for name in requirements:
        words = next((text for part, text in MISSING.items() if part in name), None)
        found[gettext(words) if words else name] = None
    return list(found)
