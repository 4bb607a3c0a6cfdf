from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from billing import settlement
from catalog import prices
from tests.billing.calls import fail, reserve, succeed
from tests.factories import make_key, make_organization, make_user, make_version
from tests.maas_site.rows import make_job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def organization(owner: User, client: Client) -> Organization:
    """The owner's organization; the owner is signed in."""
    client.force_login(owner)
    return make_organization(owner=owner)


def test_a_new_tenant_is_led_to_a_key_and_a_first_call(
    client: Client, organization: Organization
) -> None:
    shown = client.get("/console").content.decode()

    assert "Three steps to your first call" in shown
    assert "No calls yet" in shown
    assert "$5.00" in shown


def test_the_steps_disappear_when_they_are_done(client: Client, organization: Organization) -> None:
    key, _secret = make_key(organization)
    succeed(organization, make_version(), key=key)

    assert "Three steps" not in client.get("/console").content.decode()


def test_spend_is_exact_and_what_failed_or_runs_costs_nothing(
    client: Client, organization: Organization
) -> None:
    version = make_version(row_nanos=1)
    succeed(organization, version, rows=3)
    fail(organization, version)
    settlement.settle()
    reserve(organization, version)

    answer = client.get("/console")

    shown = answer.content.decode()
    assert answer.context["spend"]["today_nanos"] == 3
    assert answer.context["spend"]["month_calls"] == 3
    for text in ["$0.000000003", "$4.999999996", "held $0.000000001", "1 failed, not charged"]:
        assert text in shown


def test_another_tenants_calls_and_trainings_are_not_counted(
    client: Client, organization: Organization
) -> None:
    stranger = make_organization()
    succeed(stranger, make_version())
    make_job(stranger, state="processing")

    answer = client.get("/console")

    assert answer.context["spend"]["month_calls"] == 0
    assert not answer.context["calls"]
    assert not answer.context["jobs"]


def test_running_trainings_are_shown(client: Client, organization: Organization) -> None:
    prices.add(sku="training.cpu", components={"compute_ms": (50_000, 1000)})
    job = make_job(organization, state="processing")
    make_job(organization, state="failed")

    answer = client.get("/console")

    assert [shown.pk for shown in answer.context["jobs"]] == [job.pk]
    assert f"/console/trainings/{job.pk}" in answer.content.decode()


def test_the_page_takes_as_many_queries_for_one_call_as_for_eight(
    client: Client, organization: Organization
) -> None:
    version = make_version()
    key, _secret = make_key(organization)
    succeed(organization, version, key=key)
    make_job(organization, state="processing")
    with CaptureQueriesContext(connection) as for_one:
        client.get("/console")
    for _ in range(7):
        succeed(organization, version, key=key)
    make_job(organization, state="queued")

    with CaptureQueriesContext(connection) as for_eight:
        client.get("/console")

    assert len(for_eight) == len(for_one) <= 12
