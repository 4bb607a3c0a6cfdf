"""Budgets and limits: one row per window, whatever races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Organization
from billing import budgets
from billing.models import Budget, SpendLimit
from tests import factories


@pytest.mark.parametrize("with_key", [False, True])
def test_the_database_refuses_a_second_row_for_a_window(
    organization: Organization, with_key: bool
) -> None:
    key = factories.make_key(organization)[0] if with_key else None
    limit = budgets.set_limit(organization, "month", 10**9, api_key=key)
    row = budgets.current(organization, limit)

    for twin in (limit, row):
        twin.pk = None
        twin._state.adding = True
        with pytest.raises(IntegrityError), transaction.atomic():
            twin.save()


@pytest.mark.django_db(transaction=True)
def test_parallel_first_calls_open_each_budget_once() -> None:
    organization = factories.make_organization(credit_nanos=0)
    key, _ = factories.make_key(organization)

    def first_call(_: int) -> tuple[budgets.Member, ...]:
        budgets._cache.clear()
        try:
            return budgets.refs(organization.pk, key.pk, datetime.now(UTC)).members
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(first_call, range(16)))

    assert len(found) == 1
    assert Budget.objects.filter(organization=organization).count() == 2
    assert SpendLimit.objects.filter(organization=organization).count() == 1


def test_a_lower_limit_holds_at_once(organization: Organization) -> None:
    limit = budgets.set_limit(organization, "month", 10**9)
    row = budgets.current(organization, limit)

    budgets.set_limit(organization, "month", 5)

    row.refresh_from_db()
    assert row.capacity == 5
