"""One click against a finding: books the difference, or makes a sum say what its rows say.

What is believed is never changed: entries of the ledger, holds, usage, Stripe. So a wallet follows
the ledger, a budget follows its holds, an hourly sum follows usage; and where the ledger and Stripe
differ, the difference is a transaction of the kind `correction`, once per finding. For the rest a
person must act: `billing.advice` says how.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import User
from billing import invariants, wallets
from billing.checks import lateness
from billing.checks.trouble import Trouble
from billing.models import Finding
from billing.repairs import payments, runs, sums
from billing.repairs.case import Case, Repair
from billing.staleness import StaleError
from billing.stripe.errors import StripeCallError

State = Finding.State
REMEDIES: Mapping[str, Repair] = {
    "held_is_open_holds": sums.budget("held"),
    "posted_is_captured_holds": sums.budget("posted"),
    "wallets_are_the_ledger": sums.wallet,
    "wallets_are_their_budgets": sums.capacity,
    "rollups_are_usage": sums.hourly,
    "meters_are_the_ledger": sums.metered,
    "buckets_are_cut_as_reported": sums.cut,
    "reports_are_their_meters": sums.report,
    "top_ups_are_given_back_as_booked": sums.given_back,
    "earnings_are_shares": sums.earning,
    "guards_are_in_place": sums.guards,
    "usage_is_captured_holds": runs.usage,
    "holds_have_ended": runs.expired,
    "ends_are_settled": runs.settled,
    "payouts_are_booked": payments.payout,
    "disputed_invoices_are_booked": payments.disputed,
    "clearing_is_stripes_balance": payments.clearing,
    "payments_are_credited": payments.nothing_more,
    "events_have_arrived": payments.nothing_more,
    "reports_have_been_sent": payments.nothing_more,
}
# Asked of Stripe first: no call is made inside a transaction.
_ASKED: Mapping[str, payments.Ask] = {
    "payments_are_credited": payments.look_again,
    "events_have_arrived": payments.fetch_event,
    "reports_have_been_sent": payments.send_again,
}


def is_correctable(finding: Finding) -> bool:
    """Whether a click can make both sides agree."""
    return finding.state == State.OPEN and finding.check_name in REMEDIES


def correct(finding: Finding, *, actor: User, reason: str) -> Finding:
    """Make both sides of a finding agree, once.

    Args:
        reason: For the ledger and the audit log.

    Raises:
        ConflictError: It is not open, no click can help, or it is not true any more.
    """
    _require_correctable(finding)
    _ask(finding, actor, reason)
    with transaction.atomic():
        held = Finding.objects.select_for_update().get(pk=finding.pk)
        _require_correctable(held)
        # Wallet before budgets and book, as everywhere; the settler waits meanwhile.
        if held.organization is not None:
            wallets.lock(held.organization)
        case = Case(held, _now(held), actor, reason)
        held.correction = REMEDIES[held.check_name](case)
        held.state, held.closed_by, held.closed_reason = State.CORRECTED, actor, reason[:500]
        held.closed_at = timezone.now()
        held.save()
        audit.record(
            actor,
            "finding.corrected",
            held,
            organization=held.organization,
            reason=reason,
            details={"transaction": held.correction_id, "text": held.text},
        )
    return held


def _require_correctable(finding: Finding) -> None:
    if not is_correctable(finding):
        raise ConflictError("This finding is closed, or nothing can be booked against it.")


def _ask(finding: Finding, actor: User, reason: str) -> None:
    if ask := _ASKED.get(finding.check_name):
        try:
            ask(finding, actor, reason)
        except (StripeCallError, StaleError) as error:
            raise ConflictError(f"Stripe does not answer: {error}") from error


def _now(finding: Finding) -> Trouble | None:
    """Ask the check again, now that nobody else writes; None if it needs Stripe's answer.

    Raises:
        ConflictError: It does not find this any more.
    """
    checks = (*invariants.CHECKS, *lateness.CHECKS)
    check = next((each for each in checks if each.__name__ == finding.check_name), None)
    if check is None:
        return None
    for each in check():
        if isinstance(each, Trouble) and each.subject == finding.subject:
            return each
    raise ConflictError("Both sides agree by now: there is nothing to correct.")
