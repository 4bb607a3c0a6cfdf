"""One click against a finding: books the difference, or makes a sum say what its rows say.

What is believed is never changed: entries of the ledger, holds, usage, Stripe. So a wallet follows
the ledger, a budget follows its holds, an hourly sum follows usage; and where the ledger and Stripe
differ, the difference is a transaction of the kind `correction`, once per finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import Organization, User
from billing import invariants, ledger, rollups, wallets
from billing.checks import caps
from billing.checks.trouble import Trouble
from billing.checks.wallets import wallets_are_the_ledger, wallets_are_their_budgets
from billing.models import Budget, Finding, LedgerTransaction, TopUp, Wallet

KIND = "correction"
State = Finding.State
# Applies to the finding as it is now, inside the transaction that closes it.
Remedy = Callable[[Finding, Trouble | None, User, str], LedgerTransaction | None]


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
    with transaction.atomic():
        held = Finding.objects.select_for_update().get(pk=finding.pk)
        if not is_correctable(held):
            raise ConflictError("This finding is closed, or nothing can be booked against it.")
        # Wallet before budgets and book, as everywhere; the settler waits meanwhile.
        if held.organization is not None:
            wallets.lock(held.organization)
        trouble = _now(held)
        held.correction = REMEDIES[held.check_name](held, trouble, actor, reason)
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


def _now(finding: Finding) -> Trouble | None:
    """Ask the check again, now that nobody else writes; None if it needs Stripe's answer.

    Raises:
        ConflictError: It does not find this any more.
    """
    check = next((each for each in invariants.CHECKS if each.__name__ == finding.check_name), None)
    if check is None:
        return None
    for each in check():
        if isinstance(each, Trouble) and each.subject == finding.subject:
            return each
    raise ConflictError("Both sides agree by now: there is nothing to correct.")


def _difference(expected: int | None, found: int | None) -> int:
    return (expected or 0) - (found or 0)


def _fix_budget(column: str) -> Remedy:
    def fix(
        finding: Finding, trouble: Trouble | None, actor: User, reason: str
    ) -> LedgerTransaction | None:
        budget = Budget.objects.select_for_update().get(pk=finding.subject.partition(":")[2])
        # Once more, under the row's lock: an admission may have come between.
        check = caps.held_is_open_holds if column == "held" else caps.posted_is_captured_holds
        said = {each.subject: each.expected for each in check()}
        if finding.subject in said:
            Budget.objects.filter(pk=budget.pk).update(**{column: said[finding.subject]})
        return None

    return fix


def _fix_capacity(
    finding: Finding, trouble: Trouble | None, actor: User, reason: str
) -> LedgerTransaction | None:
    budget = Budget.objects.select_for_update().get(pk=finding.subject.partition(":")[2])
    for each in wallets_are_their_budgets():
        if each.subject == finding.subject:
            more = _difference(each.expected, each.found)
            Budget.objects.filter(pk=budget.pk).update(capacity=F("capacity") + more)
    return None


def _fix_wallet(
    finding: Finding, trouble: Trouble | None, actor: User, reason: str
) -> LedgerTransaction | None:
    """Let the wallet's row say what the ledger says.

    Promotional credit is many rows, and none of them can be blamed: there the ledger follows.
    """
    assert trouble is not None
    organization = _organization(finding)
    code = finding.subject
    if code == ledger.PROMOTIONAL[0].format(organization.pk):
        account = ledger.account(ledger.PROMOTIONAL, organization)
        nanos = _difference(trouble.expected, trouble.found)
        return _book(finding, {account: nanos, _suspense(): -nanos}, actor, reason)
    column = "paid_nanos" if code == ledger.CREDIT[0].format(organization.pk) else "owed_nanos"
    said = {each.subject: each.expected for each in wallets_are_the_ledger()}
    Wallet.objects.filter(organization=organization).update(**{column: said[code]})
    return None


def _fix_rollup(
    finding: Finding, trouble: Trouble | None, actor: User, reason: str
) -> LedgerTransaction | None:
    rollups.rebuild(_organization(finding))
    return None


def _fix_clearing(
    finding: Finding, trouble: Trouble | None, actor: User, reason: str
) -> LedgerTransaction | None:
    """Let the ledger say what moved at Stripe.

    Money of a payment that was credited to nobody is its organization's; of anything else only
    somebody who has looked can say what it is, so it waits in the account of what is unexplained.
    """
    nanos = _difference(finding.expected_nanos, finding.found_nanos)
    clearing = ledger.account(ledger.CLEARING)
    top_up = _uncredited(finding)
    if top_up is None or nanos <= 0:
        return _book(finding, {clearing: nanos, _suspense(): -nanos}, actor, reason)
    organization = top_up.organization
    booked, _ = wallets.add_paid(
        organization,
        nanos,
        {clearing: nanos},
        kind=KIND,
        external_ref=f"finding:{finding.pk}",
        actor=actor,
        reason=reason,
    )
    return booked


def _uncredited(finding: Finding) -> TopUp | None:
    kind, _, key = finding.subject.partition(":")
    if kind != "top_up":
        return None
    return TopUp.objects.filter(pk=key).exclude(state=TopUp.State.CREDITED).first()


def _book(
    finding: Finding,
    entries: Mapping[Any, int],
    actor: User,
    reason: str,
) -> LedgerTransaction:
    booked, _ = ledger.post(
        KIND,
        f"finding:{finding.pk}",
        entries,
        organization=finding.organization,
        actor=actor,
        reason=reason,
    )
    return booked


def _suspense() -> Any:
    return ledger.account(ledger.SUSPENSE)


def _organization(finding: Finding) -> Organization:
    if finding.organization is None:
        raise ConflictError("The finding is nobody's.")
    return finding.organization


REMEDIES: Mapping[str, Remedy] = {
    "held_is_open_holds": _fix_budget("held"),
    "posted_is_captured_holds": _fix_budget("posted"),
    "wallets_are_the_ledger": _fix_wallet,
    "wallets_are_their_budgets": _fix_capacity,
    "rollups_are_usage": _fix_rollup,
    "clearing_is_stripes_balance": _fix_clearing,
}
