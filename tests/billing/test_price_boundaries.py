"""Prices that change while runs go on: each run keeps its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Count

from accounts.keys import Caller
from accounts.models import Organization, User
from billing import holds, price_changes, settlement, shares
from billing.checks.rating import usage_is_rated_by_its_price
from billing.models import Hold, UsageEvent
from billing.price_changes import Target
from billing.reports import Report, Terms
from catalog import prices
from catalog.errors import NoPriceError
from catalog.models import ModelVersion, PriceComponent, PriceVersion
from inference import versions
from tests import factories
from tests.billing import calls
from tests.billing.test_price_changes import CHEAPER, DEARER, use
from tests.factories import ROW_NANOS

pytestmark = pytest.mark.usefixtures("books")


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def proposer(db: None) -> User:
    return factories.make_user("proposer@example.com", is_staff=True)


@pytest.fixture
def tenant(version: ModelVersion) -> Organization:
    """Another organization, which has used the model."""
    made = factories.make_organization()
    use(made, version)
    return made


def test_a_price_that_changes_after_admission_does_not_alter_the_cost(
    version: ModelVersion, tenant: Organization
) -> None:
    """Invariant 18: a price change after admission does not alter cost; one before does."""
    before = calls.reserve(tenant, version)
    prices.add(model=version.model, components=DEARER)
    after = calls.reserve(tenant, version)

    assert (before.reserved_nanos, after.reserved_nanos) == (ROW_NANOS, 2 * ROW_NANOS)
    assert before.price_version_id != after.price_version_id


def test_one_and_only_one_price_applies_at_the_boundary_instant(version: ModelVersion) -> None:
    """Invariant 24: at 23:59:59.999999 the old price, at 00:00:00 the new one, in every process."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    boundary = midnight + timedelta(days=1)
    old = prices.current(version.model)
    new = prices.add(model=version.model, components=DEARER, effective_from=boundary)
    target = Target(version.model)

    last = boundary - timedelta(microseconds=1)
    assert price_changes.at(target, last) == old
    assert price_changes.at(target, boundary) == new
    served = versions._load(version.model.path)
    assert served.terms_at(last).plan.price_version_id == old.pk  # type: ignore[union-attr]  # there is one
    assert served.terms_at(boundary).plan.price_version_id == new.pk


def test_a_new_price_is_known_everywhere_before_it_begins() -> None:
    """Regression 37: killbill#1856, two clocks: no process remembers an older price for longer."""
    assert timedelta(seconds=versions.CACHE_SECONDS) < price_changes.LEAD


def test_past_usage_is_never_priced_again(
    version: ModelVersion, tenant: Organization, proposer: User
) -> None:
    """Regression 35: killbill#1001, getsentry/sentry#84670, a price change reprices the past."""
    use(tenant, version, rows=3)
    prices.add(model=version.model, components=DEARER)

    assert price_changes.users(Target(version.model)) == [tenant.pk]
    with pytest.raises(DatabaseError), transaction.atomic():
        PriceVersion.objects.filter(model=version.model).update(min_charge_nanos=1)


def test_usage_at_another_price_than_its_own_is_found(
    version: ModelVersion, tenant: Organization
) -> None:
    """Invariant 19: re-rating stored quantities by the stored price gives the cost, always."""
    assert usage_is_rated_by_its_price() == []
    other = prices.add(model=version.model, components=DEARER)
    sealed = "billing_hold_ended"
    with transaction.atomic(), connection.cursor() as cursor:
        _without_guard(cursor, sealed)
        Hold.objects.filter(organization=tenant).update(price_version=other)
        (trouble,) = usage_is_rated_by_its_price()
        transaction.set_rollback(True)

    assert (trouble.expected, trouble.found) == (2 * ROW_NANOS, ROW_NANOS)


def _without_guard(cursor: Any, name: str) -> None:
    on = " ON billing_hold" if connection.vendor == "postgresql" else ""
    cursor.execute(f"DROP TRIGGER {name}{on}")


def test_a_model_without_a_price_runs_nothing_instead_of_running_unrated(
    tenant: Organization,
) -> None:
    """Regression 36: mozilla-ai/otari#407, without a price the cost was never worked out."""
    version = factories.make_version()
    with connection.cursor() as cursor, transaction.atomic():
        for name in ("catalog_pricecomponent", "catalog_priceversion"):
            on = f" ON {name}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {name}_no_delete{on}")
        PriceComponent.objects.filter(price_version__model=version.model).delete()
        PriceVersion.objects.filter(model=version.model).delete()
        caller = Caller(tenant.pk, tenant.slug)

        with pytest.raises(NoPriceError):
            versions.resolve(version.model.path, caller)
        transaction.set_rollback(True)


def test_usage_on_both_sides_of_a_price_change_is_charged_once_each(
    version: ModelVersion, tenant: Organization, proposer: User
) -> None:
    """Regression 38: polarsource/polar#9090, a change in the middle charged usage twice."""
    price_changes.propose(Target(version.model), CHEAPER, actor=proposer)
    boundary = prices.upcoming(version.model)[0].effective_from
    served = versions._load(version.model.path)
    for back in (2, 1, 0, -1):
        at = boundary - timedelta(microseconds=back)
        _run_by(served.terms_at(at), tenant, version, at)
    settlement.settle()

    of_both = UsageEvent.objects.filter(occurred_at__gte=boundary - timedelta(seconds=1))
    by_price = of_both.values_list("cost_nanos").annotate(calls=Count("pk"))
    assert dict(by_price) == {ROW_NANOS: 2, ROW_NANOS // 2: 2}
    assert UsageEvent.objects.count() == 5


def _run_by(terms: Terms, organization: Organization, version: ModelVersion, at: datetime) -> None:
    """Admit and charge one call that was accepted at an instant."""
    made = holds.prepare(
        Caller(organization.pk, organization.slug),
        terms.plan,
        share_version_id=shares.current().pk,
        quantities={"call": 1, "row": 1},
        source="api",
        accepted_at=at,
        expires_at=at + timedelta(minutes=1),
        model_version_id=version.pk,
    )
    holds.reserve(made)
    holds.capture(
        Report(
            hold_id=made.hold_id,
            outcome="succeeded",
            terms=terms,
            quantities={"call": 1, "row": 1},
            organization_id=organization.pk,
            reserved_nanos=made.reserved_nanos,
            accepted_at=at,
            completed_at=at,
            model_version_id=version.pk,
        )
    )
