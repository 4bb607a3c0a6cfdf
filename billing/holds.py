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
from functools import cached_property
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import MercatoError
from accounts.keys import Caller
from billing import budgets, bulk
from billing.budgets import BudgetRefs
from billing.errors import CapReachedError, InsufficientCreditError, OrganizationFrozenError
from billing.ids import uuid7
from billing.models import Budget, Hold, UsageEvent, UsageOrphan
from billing.money import decimal_text
from billing.outcomes import billed_percent
from billing.rating import PricePlan, rate, share

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
    hold_id: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is billed by, frozen when it was admitted."""

    plan: PricePlan
    publisher_bps: int
    policy: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """How one run ended and what it used. Without slots: what it cost is worked out once."""

    hold_id: UUID
    outcome: str
    terms: Terms
    quantities: Mapping[str, int]
    organization_id: int
    reserved_nanos: int
    accepted_at: datetime
    completed_at: datetime
    model_version_id: int | None = None
    failure: str = ""
    queue_us: int = 0
    run_us: int = 0
    batch_rows: int = 0
    worker: str = ""

    @cached_property
    def cost_nanos(self) -> int:
        """What the run is billed: its price by the outcome policy, at most what was reserved."""
        return min(self.uncapped_nanos, self.reserved_nanos)

    @cached_property
    def uncapped_nanos(self) -> int:
        """What the run would cost without the reservation."""
        percent = billed_percent(self.terms.policy, self.outcome)
        return share(rate(self.terms.plan, self.quantities), percent)

    @property
    def is_captured(self) -> bool:
        """Whether the run is charged; a failure that costs nothing is voided instead."""
        return self.outcome == "succeeded" or self.cost_nanos > 0


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
    hold_id: UUID | None = None,
) -> Reservation:
    """Work out the most a run can cost and which budgets it counts against."""
    return Reservation(
        organization_id=caller.organization_id,
        price_version_id=plan.price_version_id,
        share_version_id=share_version_id,
        reserved_nanos=rate(plan, quantities),
        budgets=budgets.refs(caller.organization_id, caller.api_key_id),
        accepted_at=accepted_at,
        expires_at=expires_at,
        source=source,
        currency=plan.currency,
        api_key_id=caller.api_key_id,
        model_version_id=model_version_id,
        request_id=request_id,
        hold_id=hold_id or uuid7(),
    )


def reserve(reservation: Reservation) -> None:
    """Set money aside for one run.

    Raises:
        InsufficientCreditError, CapReachedError, OrganizationFrozenError: Nothing was set aside.
    """
    error = reserve_many([reservation])[0]
    if error is not None:
        raise error


def reserve_many(reservations: Sequence[Reservation]) -> list[MercatoError | None]:
    """Set money aside for many runs in one transaction; what does not fit is refused alone.

    Returns:
        Per reservation, in order: None, or why nothing was set aside for it.
    """
    try:
        with transaction.atomic():
            _admit(reservations)
    except MercatoError as error:
        if len(reservations) == 1:
            return [error]
    else:
        return [None] * len(reservations)
    # Together they do not fit: request by request, in the order of arrival. A transaction each,
    # because locks of several organizations taken one after the other could wait in a circle.
    return [reserve_many([reservation])[0] for reservation in reservations]


# Not through the ORM: building the statement would cost more than running it.
_RESERVE = """
    UPDATE billing_budget SET held_nanos = held_nanos + %s
    WHERE id = %s AND posted_nanos + held_nanos + %s <= capacity_nanos AND NOT EXISTS (
        SELECT 1 FROM accounts_organization
        WHERE accounts_organization.id = billing_budget.organization_id AND is_frozen
    )
"""


def _admit(reservations: Sequence[Reservation]) -> None:
    needed: dict[tuple[int, int], int] = defaultdict(int)
    for reservation in reservations:
        for member in reservation.budgets.members:
            needed[member] += reservation.reserved_nanos
    # In the order in which everybody locks budgets: narrow before wide.
    with connection.cursor() as cursor:
        for (_, budget_id), nanos in sorted(needed.items()):
            cursor.execute(_RESERVE, [nanos, budget_id, nanos])
            if cursor.rowcount != 1:
                raise _refusal(budget_id, nanos)
    bulk.insert(Hold, _HOLD_COLUMNS, [_hold(reservation) for reservation in reservations])


def _refusal(budget_id: int, needed: int) -> MercatoError:
    budget = Budget.objects.select_related("organization").get(pk=budget_id)
    if budget.organization.is_frozen:
        return OrganizationFrozenError("An operator has frozen this organization.")
    amounts = (
        f"This run may cost {decimal_text(needed)} {budget.currency}, and "
        f"{decimal_text(max(budget.available_nanos, 0))} is available"
    )
    if budget.lock_rank == Budget.Rank.WALLET:
        return InsufficientCreditError(f"{amounts}.")
    return CapReachedError(
        f"{amounts} of the {budget.get_lock_rank_display().lower()}'s "
        f"{budget.get_window_display().lower()} limit."
    )


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
        used = [_usage(report) for report in charged if report.hold_id in ended]
        bulk.insert(UsageEvent, _USAGE_COLUMNS, used)
        late = [report for report in reports if report.hold_id not in ended]
        UsageOrphan.objects.bulk_create(_orphan(report) for report in late)
    return [report.hold_id in ended for report in reports]


def _end_captured(reports: Sequence[Report]) -> set[UUID]:
    by_cost: dict[tuple[int, str], list[Report]] = defaultdict(list)
    for report in reports:
        by_cost[report.cost_nanos, report.failure].append(report)
    ended: set[UUID] = set()
    for (cost, failure), group in by_cost.items():
        ended |= _end(
            (report.hold_id for report in group),
            state=State.CAPTURED,
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
        ended |= _end((report.hold_id for report in group), state=State.VOIDED, failure=failure)
    return ended


def _end(hold_ids: Iterable[UUID], **changes: object) -> set[UUID]:
    """End those holds that are still open, in one statement; returns which."""
    ids = list(hold_ids)
    changes["finished_at"] = datetime.now(UTC)
    still_open = Hold.objects.filter(pk__in=ids, state=State.AUTHORISED)
    if still_open.update(**changes) == len(ids):
        return set(ids)
    # Some had ended before. Ours are those that carry this instant now.
    return set(Hold.objects.filter(pk__in=ids, **changes).values_list("pk", flat=True))


_USAGE_COLUMNS = (
    *("hold_id", "organization_id", "model_version_id", "outcome", "rows", "compute_ms"),
    *("queue_us", "run_us", "batch_rows", "cost_nanos", "publisher_nanos", "platform_nanos"),
    *("uncapped_nanos", "worker", "occurred_at", "completed_at"),
)


def _usage(report: Report) -> tuple[object, ...]:
    cost = report.cost_nanos
    publisher = cost * report.terms.publisher_bps // 10_000
    return (
        report.hold_id,
        report.organization_id,
        report.model_version_id,
        report.outcome,
        report.quantities.get("row", 0),
        report.quantities.get("compute_ms", 0),
        report.queue_us,
        report.run_us,
        report.batch_rows,
        cost,
        publisher,
        cost - publisher,
        report.uncapped_nanos,
        report.worker,
        report.accepted_at,
        report.completed_at,
    )


def _orphan(report: Report) -> UsageOrphan:
    return UsageOrphan(
        hold_id=report.hold_id,
        reason="hold_ended",
        report={
            "outcome": report.outcome,
            "quantities": dict(report.quantities),
            "worker": report.worker,
        },
    )


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
    return Hold.objects.filter(pk__in=due, state=State.AUTHORISED, expires_at__lt=now).update(
        state=State.EXPIRED, failure="worker_lost", finished_at=now
    )
