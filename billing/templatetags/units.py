"""Times, shares and outcomes on pages."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

register = template.Library()

# What a code means to the person who reads the page; other codes are shown as they are.
OUTCOMES = {
    "succeeded": _("Succeeded"),
    "model_error": _("The model failed"),
    "platform_error": _("The platform failed"),
    "canceled": _("Canceled"),
    "expired": _("No answer in time"),
    "voided": _("Not run"),
    "authorised": _("Running"),
    "captured": _("Charged"),
    "timeout": _("No answer in time"),
    "overloaded": _("Too busy"),
    "no_worker": _("No worker can run it"),
    "invalid_input": _("Invalid input"),
    "worker_lost": _("The worker was lost"),
}
KINDS = {
    "trial_credit": _("Trial credit"),
    "credit_granted": _("Credit given"),
    "credit_taken": _("Credit taken back"),
    "usage": _("Usage"),
    "charge_refunded": _("Charge given back"),
    "correction": _("Correction"),
    "top_up": _("Top-up"),
    "redemption": _("Code redeemed"),
    "credit_expired": _("Credit expired"),
    "invoice_paid": _("Invoice paid"),
    "invoice_surplus": _("Paid beyond what is owed"),
    "invoice_written_off": _("Invoice written off"),
    "credit_note": _("Invoice corrected"),
    "credit_note_voided": _("Correction of an invoice taken back"),
    "credit_refund": _("Refund to the card"),
    "credit_refund_failed": _("Refund failed"),
    "clawback": _("Payment given or taken back"),
}
PAYMENTS = {
    "pending": ("plain", _("Pending")),
    "credited": ("good", _("Credited")),
    "failed": ("bad", _("Failed")),
    "expired": ("plain", _("Not paid")),
}
# What a bank's code means; other codes are shown as they are.
DECLINES = {
    "insufficient_funds": _("The card has too little money."),
    "authentication_required": _("The bank wants you to confirm the payment."),
    "expired_card": _("The card has expired."),
    "card_declined": _("The card was declined."),
    "generic_decline": _("The card was declined."),
    "requires_payment_method": _("The payment did not arrive."),
}
SOURCES = {
    "api": _("API"),
    "web": _("Browser"),
    "training": _("Training"),
    "batch": _("Batch file"),
}


@register.filter
def payment_state(state: str) -> str:
    """Write the state of a top-up in words."""
    return gettext(PAYMENTS[state][1]) if state in PAYMENTS else state


@register.filter
def payment_kind(state: str) -> str:
    """Return the kind of badge for the state of a top-up."""
    return PAYMENTS[state][0] if state in PAYMENTS else "plain"


@register.filter
def declined(code: str) -> str:
    """Write why a payment did not work."""
    if code.startswith("mismatch"):
        return gettext("What was paid is not what was ordered; an operator looks at it.")
    return gettext(DECLINES[code]) if code in DECLINES else code


@register.filter
def duration(microseconds: int | None) -> str:
    """Write a time with the unit that suits it: 0.6 ms, 12 ms, 3.4 s, 2 min 5 s."""
    if microseconds is None:
        return ""
    tenths = microseconds // 100
    if tenths < 100:
        return f"{tenths // 10}.{tenths % 10} ms"
    milliseconds = microseconds // 1000
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    whole, rest = divmod(milliseconds, 1000)
    if whole < 60:
        return f"{whole}.{rest // 100} s"
    return gettext("{minutes} min {seconds} s").format(minutes=whole // 60, seconds=whole % 60)


@register.filter
def milliseconds(value: int | None) -> str:
    """Write milliseconds with the unit that suits them."""
    return "" if value is None else duration(value * 1000)


@register.filter
def seconds(value: int | None) -> str:
    """Write whole seconds: 45 s, 2 min 5 s."""
    if value is None:
        return ""
    return f"{value} s" if value < 60 else duration(value * 1_000_000)


@register.filter
def percent(permyriad: int | None) -> str:
    """Write 9998 as 99.98 %, 10000 as 100 %."""
    if permyriad is None:
        return ""
    whole, rest = divmod(permyriad, 100)
    return f"{whole}.{rest:02d} %" if rest else f"{whole} %"


@register.filter
def outcome(code: str) -> str:
    """Write an outcome or an error code in words."""
    return gettext(OUTCOMES[code]) if code in OUTCOMES else code


@register.filter
def movement(kind: str) -> str:
    """Write the kind of a ledger transaction in words."""
    return gettext(KINDS[kind]) if kind in KINDS else kind


@register.filter
def source(code: str) -> str:
    """Write where a call came from."""
    return gettext(SOURCES[code]) if code in SOURCES else code
