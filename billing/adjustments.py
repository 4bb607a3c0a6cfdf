"""Corrective entries by hand, between two accounts, with a reason and whoever is behind it.

What moves a wallet goes through `billing.wallets`, so that what an organization can spend stays
what the ledger says. Accounts whose rows an entry would leave behind are refused: there are verbs
for them, such as giving a charge back.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import ledger, wallets
from billing.errors import AdjustmentError
from billing.models import Adjustment, LedgerAccount, LedgerTransaction

KIND = "correction"
State = Adjustment.State
# Accounts without rows of their own, and corrections themselves, can be taken back by an entry.
_FREE = {
    account[0]
    for account in (
        *(ledger.CLEARING, ledger.FEES, ledger.TAX, ledger.REVENUE, ledger.PROMOTION),
        *(ledger.WRITE_OFF, ledger.BREAKAGE, ledger.SUSPENSE),
    )
}


def propose(
    adjustment_id: UUID,
    debit: LedgerAccount,
    credit: LedgerAccount,
    nanos: int,
    *,
    reason: str,
    actor: User,
    reversal_of: LedgerTransaction | None = None,
) -> Adjustment:
    """Ask for an entry, once per id; it is booked at once if one person is enough.

    Args:
        adjustment_id: The form's: a double click is one adjustment.
        debit: What is debited: an asset or an expense rises, what is owed falls.
        credit: What is credited.
        nanos: How much; positive.

    Raises:
        AdjustmentError: The entry is not one that may be made by hand.
    """
    with transaction.atomic():
        known = Adjustment.objects.filter(pk=adjustment_id).first()
        if known is not None:
            return known
        _require_allowed(debit, credit, nanos, reason)
        made = Adjustment.objects.create(
            id=adjustment_id,
            debit=debit,
            credit=credit,
            amount_nanos=nanos,
            reason=reason[:500],
            proposed_by=actor,
            reversal_of=reversal_of,
        )
        _record(made, "proposed", actor)
        if not settings.TWO_PERSON_CORRECTIONS:
            return _decide(made, actor)
    return made


def approve(adjustment: Adjustment, *, actor: User) -> Adjustment:
    """Book an entry that somebody else has asked for.

    Raises:
        AdjustmentError: It was decided before, or by the person who asked for it.
    """
    if settings.TWO_PERSON_CORRECTIONS and actor.pk == adjustment.proposed_by_id:
        raise AdjustmentError("Another operator must approve this entry.")
    with transaction.atomic():
        return _decide(_lock(adjustment), actor)


def reject(adjustment: Adjustment, *, actor: User, reason: str) -> Adjustment:
    """Decide that an entry is not booked.

    Raises:
        AdjustmentError: It was decided before.
    """
    with transaction.atomic():
        found = _lock(adjustment)
        found.state, found.decided_by, found.decided_at = State.REJECTED, actor, timezone.now()
        found.save(update_fields=["state", "decided_by", "decided_at"])
        _record(found, "rejected", actor, reason)
    return found


def reverse(
    booked: LedgerTransaction, adjustment_id: UUID, *, reason: str, actor: User
) -> Adjustment:
    """Ask for the opposite of a transaction, once per transaction.

    Raises:
        AdjustmentError: It was taken back before, or there is a verb of its own for that.
    """
    asked = Adjustment.objects.filter(reversal_of=booked).exclude(state=State.REJECTED)
    if booked.reversals.exists() or asked.exclude(pk=adjustment_id).exists():
        raise AdjustmentError("This transaction was taken back before, or somebody asked for it.")
    if not can_reverse(booked):
        raise AdjustmentError(
            "Only corrections, and entries between accounts of the platform, are taken back here."
        )
    lines = {entry.amount_nanos > 0: entry for entry in booked.entries.select_related("account")}
    return propose(
        adjustment_id,
        debit=lines[False].account,
        credit=lines[True].account,
        nanos=lines[True].amount_nanos,
        reason=reason,
        actor=actor,
        reversal_of=booked,
    )


def can_reverse(booked: LedgerTransaction) -> bool:
    """Whether an entry by hand may take a transaction back: nothing but the ledger knows of it."""
    codes = list(booked.entries.values_list("account__code", flat=True))
    if len(codes) != 2 or booked.reversals.exists():
        return False
    return booked.kind == KIND or set(codes) <= _FREE


def _lock(adjustment: Adjustment) -> Adjustment:
    # Not the accounts it names: on PostgreSQL joined rows would be locked, too.
    wanted = Adjustment.objects.select_for_update(of=("self",))
    found = wanted.select_related("debit", "credit", "reversal_of").get(pk=adjustment.pk)
    if found.state != State.PROPOSED:
        raise AdjustmentError("This entry was decided before.")
    return found


def _decide(found: Adjustment, actor: User) -> Adjustment:
    booked = _book(found, actor)
    found.state, found.ledger_transaction = State.BOOKED, booked
    found.decided_by, found.decided_at = actor, timezone.now()
    found.save(update_fields=["state", "ledger_transaction", "decided_by", "decided_at"])
    _record(found, "booked", actor)
    return found


@dataclass(frozen=True, slots=True)
class _Side:
    """An account of an entry, and which one of the chart it is."""

    account: LedgerAccount

    @property
    def template(self) -> str:
        """Such as `tenant:{}:credit`."""
        owner = self.account.organization_id
        return self.account.code if owner is None else self.account.code.replace(str(owner), "{}")

    @property
    def is_wallet(self) -> bool:
        """Whether a wallet's row says the same as the account."""
        return self.template in {ledger.CREDIT[0], ledger.RECEIVABLE[0]}


def _require_allowed(debit: LedgerAccount, credit: LedgerAccount, nanos: int, reason: str) -> None:
    if nanos <= 0 or debit.pk == credit.pk or debit.currency != credit.currency:
        raise AdjustmentError("An entry moves a positive amount between two accounts.")
    if not reason.strip():
        raise AdjustmentError("An entry needs a reason.")
    sides = (_Side(debit), _Side(credit))
    kept = {ledger.PROMOTIONAL[0]: "Grant or take credit", ledger.ACCRUED[0]: "Give charges back"}
    for side in sides:
        if side.template in kept:
            raise AdjustmentError(
                f"{side.account.code} is the sum of rows. {kept[side.template]} instead."
            )
    if all(side.is_wallet for side in sides):
        raise AdjustmentError("Move money between wallets in two entries, through suspense.")
    if _Side(debit).template == ledger.RECEIVABLE[0]:
        raise AdjustmentError("What is owed does not rise by hand.")


def _book(found: Adjustment, actor: User) -> LedgerTransaction:
    debit, credit, nanos = _Side(found.debit), _Side(found.credit), found.amount_nanos
    if credit.template == ledger.RECEIVABLE[0]:
        return _forgive(found, actor)
    if not (debit.is_wallet or credit.is_wallet):
        booked, _ = ledger.post(
            KIND,
            _reference(found),
            {found.debit: nanos, found.credit: -nanos},
            organization=found.debit.organization or found.credit.organization,
            actor=actor,
            reason=found.reason,
            reversal_of=found.reversal_of,
        )
        return booked
    wallet, other = (found.credit, found.debit) if credit.is_wallet else (found.debit, found.credit)
    more = nanos if credit.is_wallet else -nanos
    booked, _ = wallets.add_paid(
        _owner(wallet),
        more,
        {other: more},
        kind=KIND,
        external_ref=_reference(found),
        actor=actor,
        reason=found.reason,
        reversal_of=found.reversal_of,
    )
    return booked


def _forgive(found: Adjustment, actor: User) -> LedgerTransaction:
    """Take off what an organization owes."""
    organization = _owner(found.credit)
    if wallets.lock(organization).owed_nanos < found.amount_nanos:
        raise AdjustmentError("Less is owed than should be taken off.")
    booked, _ = wallets.settle_owed(
        organization,
        found.amount_nanos,
        {found.debit: found.amount_nanos},
        kind=KIND,
        external_ref=_reference(found),
        actor=actor,
        reason=found.reason,
        reversal_of=found.reversal_of,
    )
    return booked


def _owner(account: LedgerAccount) -> Organization:
    organization = account.organization
    if organization is None:
        raise AdjustmentError(f"{account.code} belongs to nobody.")
    return organization


def _reference(found: Adjustment) -> str:
    return f"adjustment:{found.pk}"


def _record(found: Adjustment, what: str, actor: User, reason: str = "") -> None:
    audit.record(
        actor,
        f"adjustment.{what}",
        found,
        organization=found.debit.organization or found.credit.organization,
        reason=reason or found.reason,
        details={
            "debit": found.debit.code,
            "credit": found.credit.code,
            "nanos": found.amount_nanos,
        },
    )
