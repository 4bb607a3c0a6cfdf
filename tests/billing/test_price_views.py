"""The console's price pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization, User
from billing import price_changes
from billing.price_changes import Target
from catalog import prices
from catalog.models import ModelVersion, PriceChange, PriceVersion
from tests import factories
from tests.billing.test_price_changes import DEARER, use

pytestmark = pytest.mark.usefixtures("books")
State = PriceChange.State


@pytest.fixture
def version(organization: Organization) -> ModelVersion:
    return factories.make_version(owner=organization, name="digits")


@pytest.fixture
def tenant(version: ModelVersion) -> Organization:
    made = factories.make_organization(slug="a-secret-customer")
    use(made, version, rows=10)
    return made


def form(amount: str, **fields: Any) -> dict[str, Any]:
    return {
        "tiers-TOTAL_FORMS": "2",
        "tiers-INITIAL_FORMS": "0",
        "tiers-0-dimension": "row",
        "tiers-0-above": "",
        "tiers-0-amount": amount,
        "tiers-0-per": "",
        "tiers-1-dimension": "",
        "minimum": "0",
        "effective_on": "",
        "reason": "",
        **fields,
    }


@pytest.fixture
def propose(client: Client, owner: User, version: ModelVersion) -> Callable[..., Any]:
    client.force_login(owner)

    def _propose(amount: str, **fields: Any) -> Any:
        return client.post("/console/prices/digits/propose", form(amount, **fields), follow=True)

    return _propose


def test_the_list_shows_every_model_with_its_price(
    page: Callable[[str], str], version: ModelVersion
) -> None:
    factories.make_version(name="of-somebody-else")

    text = page("/console/prices")

    assert "/console/prices/digits" in text
    assert "$0.00002 / row" in text
    assert "of-somebody-else" not in text


def test_without_a_model_the_page_says_what_to_do(page: Callable[[str], str]) -> None:
    assert "No model is yours yet" in page("/console/prices")


def test_a_cheaper_price_applies_at_once(
    propose: Callable[..., Any], version: ModelVersion, tenant: Organization, owner: User
) -> None:
    answer = propose("0.00001", reason="Sale")

    change = PriceChange.objects.get()
    assert (change.state, change.proposed_by) == (State.APPROVED, owner)
    assert "The price applies from" in answer.content.decode()
    assert [each.pk for each in prices.upcoming(version.model)] == [change.price_version_id]


def test_a_dearer_price_waits_and_can_be_withdrawn(
    client: Client, propose: Callable[..., Any], tenant: Organization
) -> None:
    text = propose("0.00004").content.decode()
    change = PriceChange.objects.get()
    assert change.state == State.PROPOSED
    assert "It applies when an operator has approved it." in text

    for told in ("The proposal is withdrawn.", "This price change was decided before."):
        answer = client.post(f"/console/prices/changes/{change.pk}/withdraw", follow=True)
        assert told in answer.content.decode()

    change.refresh_from_db()
    assert change.state == State.WITHDRAWN


def test_the_preview_shows_each_tenant_without_a_name_and_proposes_nothing(
    propose: Callable[..., Any], tenant: Organization
) -> None:
    text = propose("0.00004", preview="1").content.decode()

    for told in ("Tenant 1", "$0.0002", "$0.0004", "It becomes higher for 1 tenant"):
        assert told in text
    assert tenant.slug not in text
    assert 'value="0.00004"' in text
    assert not PriceChange.objects.exists()


def test_tiers_are_rows_of_the_form(propose: Callable[..., Any], version: ModelVersion) -> None:
    second = {"tiers-1-dimension": "row", "tiers-1-above": "1000", "tiers-1-amount": "0.00001"}

    propose("0.00002", **second)

    assert PriceChange.objects.get().components == {"row": [[0, 20_000, 1], [1000, 10_000, 1]]}


@pytest.mark.parametrize(
    "fields",
    [
        {"tiers-0-amount": ""},
        {"tiers-0-amount": "-1"},
        {"tiers-0-amount": "free"},
        {"tiers-0-per": "0"},
        {"tiers-0-above": "7"},
        {"tiers-0-dimension": ""},
        {"tiers-0-dimension": "gold"},
        {"tiers-0-dimension": "output_token"},
        {"tiers-TOTAL_FORMS": "x"},
        {"minimum": "-1"},
        {"effective_on": "soon"},
    ],
)
def test_what_is_wrong_is_said_on_the_form(
    client: Client, owner: User, version: ModelVersion, fields: dict[str, str]
) -> None:
    client.force_login(owner)

    answer = client.post("/console/prices/digits/propose", form("0.00002", **fields))

    assert answer.status_code == 422
    assert not PriceChange.objects.exists()


def test_a_viewer_looks_and_does_not_propose(viewer: Client, version: ModelVersion) -> None:
    assert "Your role lets you look" in viewer.get("/console/prices/digits").content.decode()
    assert viewer.post("/console/prices/digits/propose", form("1")).status_code == 403


def test_models_and_proposals_of_others_are_not_there(
    client: Client, owner: User, organization: Organization
) -> None:
    other = factories.make_version(name="theirs")
    use(factories.make_organization(), other)
    change = price_changes.propose(Target(other.model), DEARER, actor=None)
    client.force_login(owner)

    for answer in (
        client.get("/console/prices/theirs"),
        client.post("/console/prices/theirs/propose", form("1")),
        client.post(f"/console/prices/changes/{change.pk}/withdraw"),
    ):
        assert answer.status_code == 404
    change.refresh_from_db()
    assert change.state == State.PROPOSED
    assert PriceVersion.objects.filter(model=other.model).count() == 1


def test_the_page_shows_history_and_what_comes(
    page: Callable[[str], str], version: ModelVersion, propose: Callable[..., Any]
) -> None:
    propose("0.00001", effective_on="2099-01-01")

    text = page("/console/prices/digits")

    assert "From 2099-01-01 00:00:00 UTC: $0.00001 / row" in text
    assert "approved" in text
