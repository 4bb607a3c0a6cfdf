"""Money set aside for a run, then captured, voided or expired: the cap lives here.

`posted + held <= capacity` is checked and changed by one conditional UPDATE per budget, all
budgets of a run or none. A hold ends once: its last UPDATE asks for `state = authorised`. Budgets
are given back by billing.settlement, never here, so a run's end writes no shared row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import MercatoError
from accounts.keys import Caller
from billing import budgets, bulk, crashes
from billing.budgets import BudgetRefs, Member
from billing.errors import CostCeilingError, QuoteExpiredError
from billing.ids import uuid7
from billing.models import Hold, Quote, Unit, UsageEvent, UsageOrphan
from billing.money import decimal_text
from billing.rating import PricePlan, rate
from billing.refusals import refusal
from billing.reports import USAGE_COLUMNS, Report, orphan, usage_row

State = Hold.State


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is needed to set money aside for one run."""

    organization_id: int
    price_version_id: int
    share_version_id: int
    reserved_nanos: int
    budgets: BudgetRefs
    accepted_at: datetime
    expires_at: datetime
    source: str
    currency: str = "usd"
    api_key_id: int | None = None
    model_version_id: int | None = None
    request_id: str = ""
    # The binding quote it uses up.
    quote_id: UUID | None = None
    hold_id: UUID = field(default_factory=uuid7)


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


def reserve_many(reservations: Sequence[Reservation]) -> list[Admission | MercatoError]:
    """Set money aside for many runs in one transaction; what does not fit is refused alone.

    Returns:
        Per reservation, in order: what is left, or why nothing was set aside for it.
    """
    try:
        with transaction.atomic():
            left = _admit(reservations)
    except MercatoError as error:
        if len(reservations) == 1:
            return [error]
    else:
        crashes.point("admit.committed")
        shared = {one.budgets.budget_set_id: one.budgets.members for one in reservations}
        admissions = {key: Admission(members, left) for key, members in shared.items()}
        return [admissions[one.budgets.budget_set_id] for one in reservations]
    # Together they do not fit: request by request, in the order of arrival. A transaction each,
    # because locks of several organizations taken one after the other could wait in a circle.
    return [reserve_many([reservation])[0] for reservation in reservations]


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
    needed: dict[Member, int] = defaultdict(int)
    for reservation in reservations:
        for member in reservation.budgets.members:
            needed[member] += 1 if member.unit == Unit.CALLS else reservation.reserved_nanos
    left: dict[int, tuple[int, int]] = {}
    # In the order in which everybody locks budgets: narrow before wide.
    with connection.cursor() as cursor:
        for member, amount in sorted(needed.items()):
            cursor.execute(_RESERVE, [amount, member.budget_id, amount])
            row = cursor.fetchone()
            if row is None:
                raise refusal(member, amount, needed)
            left[member.budget_id] = row
    crashes.point("admit.reserved")
    bulk.insert(Hold, _HOLD_COLUMNS, [_hold(reservation) for reservation in reservations])
    for reservation in reservations:
        if reservation.quote_id is not None:
            _use_quote(reservation, reservation.quote_id)
    crashes.point("admit.stored")
    return left


def _use_quote(reservation: Reservation, quote_id: UUID) -> None:
    """A quote is good for one run; the run and its use are one transaction."""
    used = Quote.objects.filter(
        pk=quote_id,
        organization_id=reservation.organization_id,
        hold=None,
        expires_at__gt=reservation.accepted_at,
    ).update(hold_id=reservation.hold_id)
    if not used:
        raise QuoteExpiredError("This quote has expired or was used. Nothing was charged.")


_HOLD_COLUMNS = (
    *("id", "organization_id", "api_key_id", "model_version_id", "price_version_id"),
    *("share_version_id", "budget_set_id", "currency", "source", "request_id", "state"),
    *("reserved_nanos", "failure", "accepted_at", "expires_at"),
)


def _hold(reservation: Reservation) -> tuple[object, ...]:
    return (
        reservation.hold_id,
        reservation.organization_id,
        reservation.api_key_id,
        reservation.model_version_id,
        reservation.price_version_id,
        reservation.share_version_id,
        reservation.budgets.budget_set_id,
        reservation.currency,
        reservation.source,
        reservation.request_id,
        State.AUTHORISED.value,
        reservation.reserved_nanos,
        "",
        reservation.accepted_at,
        reservation.expires_at,
    )


def capture(report: Report) -> bool:
    """Charge one run for what it used; False if its hold had already ended."""
    return capture_many([report])[0]


def capture_many(reports: Sequence[Report]) -> list[bool]:
    """End many holds in one transaction: captured with a usage event, or voided.

    Returns:
        Per report, in order: True, or False if its hold had ended before (nothing is charged;
        the report is kept as an orphan).
    """
    charged = [report for report in reports if report.is_captured]
    voided = [report for report in reports if not report.is_captured]
    # No savepoint inside a caller's transaction: a failure here ends that as well.
    with transaction.atomic(savepoint=False):
        ended = _end_captured(charged) | _end_voided(voided)
        crashes.point("capture.ended")
        used = [usage_row(report) for report in charged if report.hold_id in ended]
        bulk.insert(UsageEvent, USAGE_COLUMNS, used)
        late = [report for report in reports if report.hold_id not in ended]
        if late:
            UsageOrphan.objects.bulk_create(orphan(report) for report in late)
        crashes.point("capture.used")
    crashes.point("capture.committed")
    return [report.hold_id in ended for report in reports]


def _end_captured(reports: Sequence[Report]) -> set[UUID]:
    by_cost: dict[tuple[int, str], list[Report]] = defaultdict(list)
    for report in reports:
        by_cost[report.cost_nanos, report.failure].append(report)
    ended: set[UUID] = set()
    for (cost, failure), group in by_cost.items():
        ended |= _end(
            (report.hold_id for report in group),
            state=State.CAPTURED.value,
            captured_nanos=cost,
            failure=failure,
        )
    return ended


def _end_voided(reports: Sequence[Report]) -> set[UUID]:
    by_failure: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        by_failure[report.failure or report.outcome].append(report)
    ended: set[UUID] = set()
    for failure, group in by_failure.items():
        ended |= _end(
            (report.hold_id for report in group), state=State.VOIDED.value, failure=failure
        )
    return ended


def _end(hold_ids: Iterable[UUID], **changes: object) -> set[UUID]:
    """End those holds that are still open, in one statement; returns which."""
    ids = list(hold_ids)
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
    return Hold.objects.filter(pk__in=hold_ids, state=State.AUTHORISED).update(
        state=State.VOIDED, failure=failure, finished_at=datetime.now(UTC)
    )


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
    return Hold.objects.filter(pk__in=due, state=State.AUTHORISED, expires_at__lt=now).update(
        state=State.EXPIRED, failure="worker_lost", finished_at=now
    )
