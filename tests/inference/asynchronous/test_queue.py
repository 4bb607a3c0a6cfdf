"""The queue: in order, fair among organizations, and as quick with 10,000 rows as with ten."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Organization
from billing.ids import uuid7
from billing.models import Hold
from catalog.models import ModelVersion
from inference.asynchronous import claims
from inference.errors import QueueFullError
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import Accept


def claim() -> list[UUID]:
    found = claims.claim("w1")
    return [one.pk for one in found.predictions] if found else []


def wait_many(
    organization: Organization, version: ModelVersion, count: int, *, first: int = 0
) -> list[Prediction]:
    """Store rows that wait, as `accept` does, without the money of each."""
    now = timezone.now()
    return Prediction.objects.bulk_create(
        Prediction(
            organization=organization,
            model_version=version,
            hold_id=uuid7(),
            status=Prediction.Status.QUEUED,
            is_async=True,
            input={},
            rows=1,
            turn=first + turn,
            start_by=now + timedelta(hours=1),
            expires_at=now + timedelta(hours=2),
        )
        for turn in range(count)
    )


def test_rows_are_claimed_in_the_order_in_which_they_came(
    accept: Accept, settings: Settings
) -> None:
    settings.ASYNC_MAX_ROWS = 2
    rows = [accept().pk for _ in range(5)]

    assert [claim() for _ in range(4)] == [rows[:2], rows[2:4], rows[4:], []]


def test_a_batch_has_rows_of_one_version_only(accept: Accept) -> None:
    other = factories.make_version()
    first, second, third = accept(), accept(version=other), accept()

    assert claim() == [first.pk, third.pk]
    assert claim() == [second.pk]


def test_a_large_request_fills_a_batch_alone(accept: Accept, settings: Settings) -> None:
    settings.ASYNC_MAX_ROWS = 4
    images = [factories.image(1)] * 6
    small, large = accept(), accept(value={"image": images})

    assert [claim(), claim()] == [[small.pk], [large.pk]]


def test_one_tenants_ten_thousand_rows_do_not_keep_anothers_one_row_waiting(
    accept: Accept, organization: Organization, version: ModelVersion
) -> None:
    wait_many(organization, version, 10_000)
    for _ in range(3):
        claim()

    newcomer = accept(organization=factories.make_organization())

    assert newcomer.pk in claim()


def test_tenants_take_turns(accept: Accept, settings: Settings) -> None:
    settings.ASYNC_MAX_ROWS = 1
    many, few = factories.make_organization(), factories.make_organization()
    of_many = [accept(organization=many).pk for _ in range(4)]
    of_few = [accept(organization=few).pk for _ in range(2)]

    order = [claim()[0] for _ in range(6)]

    expected = [of_many[0], of_few[0], of_many[1], of_few[1], *of_many[2:]]
    assert order == expected


def test_an_organization_may_only_have_so_many_waiting(accept: Accept, settings: Settings) -> None:
    settings.ASYNC_MAX_QUEUED = 2
    accept(), accept()

    with pytest.raises(QueueFullError):
        accept()

    assert Hold.objects.count() == 2
    accept(organization=factories.make_organization())


def test_ten_thousand_waiting_rows_are_claimed_in_order(
    organization: Organization, version: ModelVersion, settings: Settings
) -> None:
    settings.ASYNC_MAX_ROWS = 64
    rows = [one.pk for one in wait_many(organization, version, 10_000)]

    with CaptureQueriesContext(connection) as queries:
        first = claim()
    with CaptureQueriesContext(connection) as later:
        claimed = [*first, *(pk for _ in range(156) for pk in claim())]

    assert claimed == rows
    # As many statements for the last batch as for the first, each along an index.
    assert len(later) == 156 * len(queries)
    assert not Prediction.objects.filter(turn__isnull=False).exists()


@pytest.mark.parametrize("count", [10, 10_000])
def test_a_claim_reads_no_more_rows_than_it_takes(
    organization: Organization, version: ModelVersion, count: int
) -> None:
    wait_many(organization, version, count)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE inference_prediction")

    with CaptureQueriesContext(connection) as queries:
        claim()
        accepted = Prediction.objects.filter(organization=organization, turn__isnull=False)
        accepted.order_by("-turn").values_list("turn").first()

    selects = [q["sql"] for q in queries if q["sql"].startswith("SELECT")]
    assert len(selects) == 4
    if count == 10_000:
        for sql in selects:
            plan = explain(sql)
            assert "prediction_" in plan, plan
            assert "Seq Scan on inference_prediction" not in plan
            assert "SCAN inference_prediction\n" not in plan


def explain(sql: str) -> str:
    """Return how the database would run a statement."""
    prefix = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + sql.replace("%", "%%"), [])
        return "\n".join(str(row[-1]) for row in cursor.fetchall()) + "\n"
