"""Who locks several rows does so in one order: two of them never wait for each other in a circle.

Holds by id; budgets narrow before wide, then by id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, models, transaction

from accounts.models import Organization
from billing import budgets, holds
from billing.models import Budget, Hold
from billing.reservations import Reservation
from catalog.models import ModelVersion
from tests import factories
from tests.billing import calls

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("books")]
ROW = factories.ROW_NANOS


def captured_alike(made: Sequence[Reservation], version: ModelVersion) -> object:
    """Charge the same for all: one statement."""
    return holds.capture_many([calls.report(one, version) for one in made])


def captured_each(made: Sequence[Reservation], version: ModelVersion) -> object:
    """Charge each something else: a statement each, in the order in which they are told."""
    told = [calls.report(one, version) for one in made]
    return holds.capture_many([replace(one, quantities={"row": i}) for i, one in enumerate(told)])


def voided(made: Sequence[Reservation], version: ModelVersion) -> object:
    return holds.void_many([one.hold_id for one in made], "canceled")


def expired(made: Sequence[Reservation], version: ModelVersion) -> object:
    return holds.expire_due()


@pytest.mark.parametrize("end", [captured_alike, captured_each, voided, expired])
def test_who_ends_several_holds_locks_them_in_the_order_of_their_ids(
    organization: Organization,
    version: ModelVersion,
    end: Callable[[Sequence[Reservation], ModelVersion], object],
) -> None:
    """Regression 11: PostgreSQL locks rows as it finds them; two could wait in a circle."""
    first, second = sorted(uuid4() for _ in range(2))
    made = _open(organization, version, [second, first])

    with _locked(Hold, first, lambda: end(made, version)):
        assert Hold.objects.select_for_update(nowait=True).get(pk=second)

    assert not Hold.objects.filter(state="authorised").exists()


def test_who_takes_from_several_organizations_locks_budgets_narrow_before_wide(
    version: ModelVersion,
) -> None:
    """Regression 11: what does not fit is refused alone, while all budgets are locked."""
    short, other = factories.make_organization(), factories.make_organization()
    # One of its two calls fits; and the organization whose wallet is locked last comes first.
    budgets.set_limit(short, "month", ROW)
    made = [calls.prepare(one, version) for one in (other, short, short)]
    first, second = (budgets.wallet(one).pk for one in (short, other))
    outcomes: list[object] = []

    with _locked(Budget, first, lambda: outcomes.extend(holds.reserve_many(made))):
        assert Budget.objects.select_for_update(nowait=True).get(pk=second)

    assert [type(one) for one in outcomes].count(holds.Admission) == 2


def _open(
    organization: Organization, version: ModelVersion, hold_ids: Sequence[UUID]
) -> list[Reservation]:
    """Open holds that are due, in this order in the table."""
    usual = calls.prepare(organization, version)
    due = datetime.now(UTC) - timedelta(seconds=1)
    made = [replace(usual, hold_id=each, expires_at=due) for each in hold_ids]
    holds.reserve_many(made)
    return made


@contextmanager
def _locked(model: type[models.Model], key: object, act: Callable[[], object]) -> Iterator[None]:
    """Lock a row, and let another connection act until it waits for it; then let it go on."""
    if connection.vendor != "postgresql":
        act()  # one writes at a time there: nobody waits for a row
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            model._default_manager.select_for_update().get(pk=key)
            acting = pool.submit(_alone, act)
            while not _somebody_waits():
                assert not acting.done(), acting.result()
            yield
            transaction.set_rollback(True)
        acting.result()


def _alone(act: Callable[[], object]) -> None:
    """Act on a connection of its own, whose plans take rows as they lie in the table."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_indexscan TO off; SET enable_bitmapscan TO off")
    try:
        act()
    finally:
        connection.close()


def _somebody_waits() -> bool:
    """Whether another connection waits for this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted "
            "AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone() is not None
