"""A charge given back, in part or in full: a reversing transaction that takes from each its part.

What the tenant gets becomes paid credit. The publisher's part is taken from what is accrued, or
from what is payable if it was released before; payable may fall below zero, and is carried.
Locks, in this order: hold, wallet, earning, book, budget.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import crashes, ledger, wallets
from billing.errors import ChargeRefundError
from billing.models import ChargeRefund, ChargeRefundRun, Earning, Hold, LedgerAccount
from billing.models.holds import HoldQuerySet
from catalog.models import ModelVersion

KIND = "charge_refunded"
# Refunds of one run per round of the beat.
ROUND = 2000
_PAGE = 200


def refund(
    hold_id: UUID,
    nanos: int | None,
    *,
    external_ref: str,
    reason: str,
    actor: User,
    run: ChargeRefundRun | None = None,
) -> ChargeRefund:
    """Give a charge back, once per `external_ref`.

    Args:
        nanos: How much; None: what is left of the charge.
        external_ref: Who asks, such as a form of the console: the same asker gets it once.

    Raises:
        ChargeRefundError: The charge is not booked, or less is left of it.
        Hold.DoesNotExist: There is no such charge.
    """
    with transaction.atomic():
        hold = _lock(hold_id)
        known = ChargeRefund.objects.filter(external_ref=external_ref).first()
        if known is not None:
            return known
        nanos = _allowed(hold, nanos)
        wallet = wallets.lock(hold.organization)
        before, number = _given(hold)
        owner = publisher_of(hold)
        part = _publisher_part(hold, before + nanos) - _publisher_part(hold, before)
        is_from_payable = bool(part) and owner is not None and not _claw_back(hold, owner, part)
        crashes.point("refund.clawed_back")
        booked, _ = wallets.add_paid(
            hold.organization,
            nanos,
            _entries(nanos, part, owner, is_from_payable, wallet.currency),
            kind=KIND,
            external_ref=f"{hold.pk}:{number}",
            actor=actor,
            reason=reason,
            # Of the settlement that booked the charge: with others, so it may be taken back often.
            reversal_of=hold.settlement.ledger_transaction if hold.settlement else None,
        )
        made = ChargeRefund.objects.create(
            hold=hold,
            number=number,
            external_ref=external_ref,
            run=run,
            amount_nanos=nanos,
            publisher=owner,
            publisher_nanos=part,
            is_from_payable=is_from_payable,
            reason=reason[:500],
            actor=actor,
            ledger_transaction=booked,
        )
        audit.record(
            actor,
            "charge.refunded",
            hold,
            organization=hold.organization,
            reason=reason,
            details={"nanos": nanos, "publisher_nanos": part, "refund": number},
        )
        crashes.point("refund.booked")
    return made


def left_of(hold: Hold) -> int:
    """Return how much of a charge has not been given back, in nanos."""
    return (hold.captured_nanos or 0) - _given(hold)[0]


def publisher_of(hold: Hold) -> Organization | None:
    """Return who has the publisher's part of a charge; nobody for a training."""
    return hold.model_version.model.owner if hold.model_version else None


def _lock(hold_id: UUID) -> Hold:
    wanted = Hold.objects.select_related(
        *("usage", "organization", "model_version__model__owner", "settlement__ledger_transaction")
    )
    return wanted.select_for_update(of=("self",)).get(pk=hold_id)


def _given(hold: Hold) -> tuple[int, int]:
    """Return how much was given back before, and the number of the next refund."""
    sums = hold.refunds.aggregate(total=Coalesce(Sum("amount_nanos"), 0))
    return sums["total"], hold.refunds.count() + 1


def _allowed(hold: Hold, nanos: int | None) -> int:
    if hold.state != Hold.State.CAPTURED:
        raise ChargeRefundError("Nothing was charged for this run.")
    if hold.settlement_id is None:
        raise ChargeRefundError("The charge is not booked yet. Try again in a minute.")
    left = left_of(hold)
    wanted = left if nanos is None else nanos
    if not 0 < wanted <= left:
        raise ChargeRefundError("Less is left of the charge than should be given back.")
    return wanted


def _publisher_part(hold: Hold, given: int) -> int:
    """Return the publisher's part of what was given back so far: in proportion, rounded down.

    Cumulative, so that a charge given back in pieces takes exactly what the publisher got.
    """
    if hold.model_version_id is None or not hold.captured_nanos:
        return 0
    return hold.usage.publisher_nanos * given // hold.captured_nanos


def _claw_back(hold: Hold, owner: Organization, part: int) -> bool:
    """Take the part from what is accrued; False if it was released, also a moment ago."""
    taken = Earning.objects.filter(
        publisher=owner, settlement=hold.settlement_id, released_at=None
    ).update(clawed_back_nanos=F("clawed_back_nanos") + part)
    return taken == 1


def _entries(
    nanos: int, part: int, owner: Organization | None, is_from_payable: bool, currency: str
) -> dict[LedgerAccount, int]:
    entries = {ledger.account(ledger.REVENUE, currency=currency): nanos - part}
    if part and owner is not None:
        template = ledger.PAYABLE if is_from_payable else ledger.ACCRUED
        entries[ledger.account(template, owner, currency)] = part
    return entries


# All charges of a version in a period -------------------------------------------------------


def start_run(
    run_id: UUID,
    version: ModelVersion,
    since: datetime,
    until: datetime,
    *,
    reason: str,
    actor: User,
) -> ChargeRefundRun:
    """Ask for all charges of a version in a period to be given back, once per `run_id`.

    The work is done by `resume_runs`, in small transactions: it may be killed at any line.

    Args:
        since: Runs accepted from then on.
        until: And before then; a moment in the future means now.

    Raises:
        ChargeRefundError: The period is empty.
    """
    until = min(until, timezone.now())
    if since >= until:
        raise ChargeRefundError("The period is empty.")
    with transaction.atomic():
        run, is_new = ChargeRefundRun.objects.get_or_create(
            pk=run_id,
            defaults={
                "model_version": version,
                "since": since,
                "until": until,
                "reason": reason[:500],
                "actor": actor,
            },
        )
        if is_new:
            audit.record(
                actor,
                "charges.refund_started",
                version,
                organization=version.model.owner,
                reason=reason,
                details={"since": since.isoformat(), "until": until.isoformat()},
            )
    return run


def resume_runs() -> int:
    """Go on with every run that has not ended; returns how many charges were given back."""
    running = ChargeRefundRun.objects.filter(state=ChargeRefundRun.State.RUNNING)
    return sum(resume(run) for run in list(running.select_related("actor")))


def resume(run: ChargeRefundRun, limit: int = ROUND) -> int:
    """Give back up to `limit` charges of a run; returns how many there were."""
    count, after = 0, UUID(int=0)
    while count < limit:
        page = list(_open_charges(run).filter(pk__gt=after).values_list("pk", flat=True)[:_PAGE])
        for hold_id in page:
            count += _refund_rest(run, hold_id)
            crashes.point("refund.next")
        if len(page) < _PAGE:
            _finish(run)
            break
        after = page[-1]
    return count


def _open_charges(run: ChargeRefundRun) -> HoldQuerySet:
    of_run = Hold.objects.filter(model_version=run.model_version_id, captured_nanos__gt=0)
    settled = of_run.accepted(run.since, run.until).filter(settlement__isnull=False)
    given = Coalesce(Sum("refunds__amount_nanos"), 0)
    return settled.annotate(given=given).filter(captured_nanos__gt=F("given")).order_by("pk")


def _refund_rest(run: ChargeRefundRun, hold_id: UUID) -> bool:
    try:
        refund(
            hold_id,
            None,
            external_ref=f"run:{run.pk}:{hold_id}",
            reason=run.reason,
            actor=run.actor,
            run=run,
        )
    except ChargeRefundError:
        # Somebody gave it back in between.
        return False
    return True


def _finish(run: ChargeRefundRun) -> None:
    """End a run, unless some of its calls are still open or not booked: the next round sees."""
    of_run = Hold.objects.filter(model_version=run.model_version_id)
    waiting = of_run.accepted(run.since, run.until).filter(settlement=None)
    if waiting.exists() or _open_charges(run).exists():
        return
    ChargeRefundRun.objects.filter(pk=run.pk, state=ChargeRefundRun.State.RUNNING).update(
        state=ChargeRefundRun.State.DONE, finished_at=timezone.now()
    )
