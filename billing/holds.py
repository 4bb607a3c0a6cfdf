"""Money set aside for a run, then captured, voided or expired: the cap lives here.

`posted + held <= capacity` is checked and changed by one conditional UPDATE per budget, all
budgets of a run or none. A hold ends once: its last UPDATE asks for `state = authorised`. Budgets
are given back by billing.settlement, never here, so a run's end writes no shared row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import MercatoError
from accounts.keys import Caller
from billing import budgets, bulk, crashes, writing
from billing.budgets import Member
from billing.errors import CostCeilingError, QuoteExpiredError
from billing.ids import uuid7
from billing.models import Budget, Hold, Quote, Unit, UsageEvent, UsageOrphan
from billing.money import decimal_text
from billing.rating import PricePlan, rate
from billing.refusals import refusal
from billing.reports import USAGE_COLUMNS, Report, orphan, usage_row
from billing.reservations import HOLD_COLUMNS, Reservation, hold_row

State = Hold.State


# Compared by identity: all runs of a batch that have the same caps share one.
@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """Money is set aside: what is left of each cap now, after the whole batch.

    Attributes:
        left: Budget id → (what can still be set aside, the cap), in the budget's unit.
    """

    members: tuple[Member, ...]
    left: Mapping[int, tuple[int, int]]


def prepare(
    caller: Caller,
    plan: PricePlan,
    *,
    share_version_id: int,
    quantities: Mapping[str, int],
    source: str,
    accepted_at: datetime,
    expires_at: datetime,
    model_version_id: int | None = None,
    request_id: str = "",
    ceiling_nanos: int | None = None,
    quote_id: UUID | None = None,
    hold_id: UUID | None = None,
) -> Reservation:
    """Work out the most a run can cost and which budgets it counts against.

    Raises:
        CostCeilingError: That is more than `ceiling_nanos`.
    """
    most = rate(plan, quantities)
    if ceiling_nanos is not None and most > ceiling_nanos:
        raise CostCeilingError(
            f"This run may cost {decimal_text(most)} {plan.currency}, more than the "
            f"{decimal_text(ceiling_nanos)} of Mercato-Max-Cost. Nothing was charged."
        )
    return Reservation(
        organization_id=caller.organization_id,
        price_version_id=plan.price_version_id,
        share_version_id=share_version_id,
        reserved_nanos=most,
        budgets=budgets.refs(caller.organization_id, caller.api_key_id, accepted_at),
        accepted_at=accepted_at,
        expires_at=expires_at,
        source=source,
        currency=plan.currency,
        api_key_id=caller.api_key_id,
        model_version_id=model_version_id,
        request_id=request_id,
        quote_id=quote_id,
        hold_id=hold_id or uuid7(),
    )


def reserve(reservation: Reservation) -> Admission:
    """Set money aside for one run.

    Raises:
        InsufficientCreditError, CapReachedError, OrganizationFrozenError, QuoteExpiredError:
            Nothing was set aside.
    """
    outcome = reserve_many([reservation])[0]
    if isinstance(outcome, MercatoError):
        raise outcome
    return outcome


def reserve_together(reservations: Sequence[Reservation]) -> None:
    """Set money aside for all of these runs, or for none.

    Raises:
        InsufficientCreditError, CapReachedError, OrganizationFrozenError: Nothing was set aside.
    """
    with transaction.atomic():
        _admit(reservations)


def reserve_many(
    reservations: Sequence[Reservation], *, is_synced: bool = True
) -> list[Admission | MercatoError]:
    """Set money aside for many runs in one transaction; what does not fit is refused alone.

    Args:
        is_synced: Whether the holds must be on the disk before this returns. Not if nobody is told
            of them: a hold that is lost with the power is lost with all that was set aside for it,
            its run can no longer be charged, and without the charge there is no answer.

    Returns:
        Per reservation, in order: what is left, or why nothing was set aside for it.
    """
    try:
        with _transaction(is_synced):
            left = _admit(reservations)
        outcomes = _admissions(reservations, left)
    except MercatoError as error:
        if len(reservations) == 1:
            return [error]
        # Together they do not fit: request by request, in the order of arrival.
        with _transaction(is_synced):
            outcomes = _admit_in_turn(reservations)
    crashes.point("admit.committed")
    return outcomes


def _transaction(is_synced: bool) -> AbstractContextManager[None]:
    return transaction.atomic() if is_synced else writing.unsynced()


def _admissions(
    reservations: Sequence[Reservation], left: Mapping[int, tuple[int, int]]
) -> list[Admission | MercatoError]:
    shared = {one.budgets.budget_set_id: one.budgets.members for one in reservations}
    admissions = {key: Admission(members, left) for key, members in shared.items()}
    return [admissions[one.budgets.budget_set_id] for one in reservations]


# Not through the ORM: building the statement would cost more than running it.
_RESERVE = """
    UPDATE billing_budget SET held = held + %s
    WHERE id = %s AND posted + held + %s <= capacity AND NOT EXISTS (
        SELECT 1 FROM accounts_organization
        WHERE accounts_organization.id = billing_budget.organization_id AND is_frozen
    )
    RETURNING capacity - posted - held, spent_before + capacity
"""


def _admit(reservations: Sequence[Reservation]) -> dict[int, tuple[int, int]]:
    """Set money aside for all of them; returns what is left in each budget, see Admission."""
    needed: dict[Member, int] = defaultdict(int)
    for reservation in reservations:
        for member in reservation.budgets.members:
            needed[member] += _need(reservation, member)
    left: dict[int, tuple[int, int]] = {}
    # In the order in which everybody locks budgets: narrow before wide.
    with connection.cursor() as cursor:
        for member, amount in sorted(needed.items()):
            cursor.execute(_RESERVE, [amount, member.budget_id, amount])
            row = cursor.fetchone()
            if row is None:
                raise refusal(member, amount, budgets.load(one.budget_id for one in needed))
            left[member.budget_id] = row
    _store(reservations)
    for reservation in reservations:
        _use_quote(reservation)
    crashes.point("admit.stored")
    return left


def _need(reservation: Reservation, member: Member) -> int:
    return 1 if member.unit == Unit.CALLS else reservation.reserved_nanos


def _store(reservations: Sequence[Reservation]) -> None:
    crashes.point("admit.reserved")
    bulk.insert(Hold, HOLD_COLUMNS, [hold_row(one) for one in reservations])


def _admit_in_turn(reservations: Sequence[Reservation]) -> list[Admission | MercatoError]:
    """Set money aside for those that fit, in the order of arrival; the rest is refused.

    All budgets of the batch are locked first, in the order in which everybody locks them: locks
    of several organizations taken one after the other could wait in a circle.
    """
    wanted = (member for one in reservations for member in one.budgets.members)
    locked = budgets.load((member.budget_id for member in wanted), is_locked=True)
    refusals = [_take(reservation, locked) for reservation in reservations]
    Budget.objects.bulk_update(locked.values(), ["held"])
    fitting = [one for one, error in zip(reservations, refusals, strict=True) if error is None]
    _store(fitting)
    crashes.point("admit.stored")
    left = {budget.pk: (budget.available, budget.limit) for budget in locked.values()}
    admissions = iter(_admissions(fitting, left))
    return [error or next(admissions) for error in refusals]


def _take(reservation: Reservation, locked: Mapping[int, Budget]) -> MercatoError | None:
    """Count a run in its budgets, which are locked; returns why it does not fit."""
    members = reservation.budgets.members
    mine = {member.budget_id: locked[member.budget_id] for member in members}
    for member in members:
        budget, need = mine[member.budget_id], _need(reservation, member)
        if budget.organization.is_frozen or budget.available < need:
            return refusal(member, need, mine)
    try:
        _use_quote(reservation)
    except QuoteExpiredError as error:
        return error
    for member in members:
        mine[member.budget_id].held += _need(reservation, member)
    return None


def _use_quote(reservation: Reservation) -> None:
    """A quote is good for one run; the run and its use are one transaction."""
    if reservation.quote_id is None:
        return
    used = Quote.objects.filter(
        pk=reservation.quote_id,
        organization_id=reservation.organization_id,
        hold=None,
        expires_at__gt=reservation.accepted_at,
    ).update(hold_id=reservation.hold_id)
    if not used:
        raise QuoteExpiredError("This quote has expired or was used. Nothing was charged.")


def capture(report: Report) -> bool:
    """Charge one run for what it used; False if its hold had already ended."""
    return capture_many([report])[0]


def capture_many(reports: Sequence[Report]) -> list[bool]:
    """End many holds in one transaction: captured with a usage event, or voided.

    Returns:
        Per report, in order: True, or False if its hold had ended before (nothing is charged;
        the report is kept as an orphan).
    """
    # No savepoint inside a caller's transaction: a failure here ends that as well.
    with transaction.atomic(savepoint=False):
        ended = _end_all(reports)
        crashes.point("capture.ended")
        charged = [one for one in reports if one.is_captured and one.hold_id in ended]
        bulk.insert(UsageEvent, USAGE_COLUMNS, [usage_row(report) for report in charged])
        late = [report for report in reports if report.hold_id not in ended]
        if late:
            UsageOrphan.objects.bulk_create(orphan(report) for report in late)
        crashes.point("capture.used")
    crashes.point("capture.committed")
    return [report.hold_id in ended for report in reports]


def _end_all(reports: Sequence[Report]) -> set[UUID]:
    """End those holds that are still open, in a statement per way to end; returns which."""
    alike: dict[tuple[str, int | None, str], list[UUID]] = defaultdict(list)
    for report in reports:
        way = (
            (State.CAPTURED.value, report.cost_nanos, report.failure)
            if report.is_captured
            else (State.VOIDED.value, None, report.failure or report.outcome)
        )
        alike[way].append(report.hold_id)
    if len(alike) > 1:
        bulk.lock(Hold, [report.hold_id for report in reports])
    ended: set[UUID] = set()
    for (state, captured, failure), ids in alike.items():
        ended |= _end(ids, state=state, captured_nanos=captured, failure=failure)
    return ended


def _end(ids: Sequence[UUID], **changes: object) -> set[UUID]:
    """End those holds that are still open, in one statement; returns which."""
    changes["finished_at"] = datetime.now(UTC)
    if bulk.update(Hold, ids, changes, only={"state": State.AUTHORISED.value}) == len(ids):
        return set(ids)
    # Some had ended before. Ours are those that carry this instant now.
    return set(Hold.objects.filter(pk__in=ids, **changes).values_list("pk", flat=True))


def void(hold_id: UUID, failure: str) -> bool:
    """End a hold without a charge; False if it had already ended."""
    return bool(void_many([hold_id], failure))


def void_many(hold_ids: Sequence[UUID], failure: str) -> int:
    """End holds without a charge; returns how many were still open."""
    changes = {
        "state": State.VOIDED.value,
        "failure": failure,
        "finished_at": datetime.now(UTC),
    }
    return bulk.update(Hold, hold_ids, changes, only={"state": State.AUTHORISED.value})


def extend(hold_id: UUID, expires_at: datetime) -> bool:
    """Keep an open hold of a long run alive; False if it has ended."""
    changed = Hold.objects.filter(pk=hold_id, state=State.AUTHORISED).update(expires_at=expires_at)
    return bool(changed)


def expire_due(limit: int = 1000) -> int:
    """End holds whose worker died: nothing is charged. Returns how many ended."""
    now = datetime.now(UTC)
    due = list(
        Hold.objects.filter(state=State.AUTHORISED, expires_at__lt=now)
        .order_by("expires_at")
        .values_list("pk", flat=True)[:limit]
    )
    if not due:
        return 0
    crashes.point("expire.found")
    with transaction.atomic():
        bulk.lock(Hold, due)
        # One that was kept alive or ended in between is left alone.
        open_still = Hold.objects.filter(pk__in=due, state=State.AUTHORISED, expires_at__lt=now)
        ended = open_still.update(state=State.EXPIRED, failure="worker_lost", finished_at=now)
        crashes.point("expire.ended")
    return ended
