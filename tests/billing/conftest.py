"""Fixtures of the money tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Membership, Organization, User
from billing.models import Invoice
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import START, Clock
from tests.factories import make_organization, make_user, make_version


@pytest.fixture
def count_queries() -> Callable[[Callable[[], object]], int]:
    """Count the queries of an act."""

    def count(act: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as captured:
            act()
        return len(captured)

    return count


@pytest.fixture
def owner(db: None) -> User:
    return make_user("owner@example.com")


@pytest.fixture
def organization(owner: User) -> Organization:
    return make_organization(owner=owner)


@pytest.fixture
def page(client: Client, owner: User, organization: Organization) -> Callable[[str], str]:
    """Open a page as the owner."""
    client.force_login(owner)

    def read(address: str, status: int = 200) -> str:
        answer = client.get(address)
        assert answer.status_code == status
        return answer.content.decode()

    return read


@pytest.fixture
def viewer(client: Client, organization: Organization) -> Client:
    """Sign a member in who may only look."""
    person = make_user("viewer@example.com")
    Membership.objects.create(organization=organization, user=person, role=Membership.Role.VIEWER)
    client.force_login(person)
    return client


@pytest.fixture
def version(db: None) -> ModelVersion:
    return make_version(name="digits")


@pytest.fixture
def clock(fake_stripe: object, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the time, here and at a new and empty Stripe."""
    return Clock(monkeypatch)


@pytest.fixture
def tenant(clock: Clock) -> Organization:
    """Acme, which pays its invoices by hand."""
    return world.make_postpaid(slug="acme", card=False)


@pytest.fixture
def invoice(tenant: Organization, clock: Clock, version: ModelVersion, books: None) -> Invoice:
    """Ten dollars of January, not paid."""
    world.use(tenant, version, START, rows=500_000)
    world.close_month(clock, tenant)
    return Invoice.objects.get()
