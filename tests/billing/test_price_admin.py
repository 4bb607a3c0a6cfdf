"""The price book and its proposals in the operators' console."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Organization, User
from billing import price_changes
from billing.price_changes import Target
from catalog.models import ModelVersion, PriceChange, PriceVersion
from tests import factories
from tests.billing.test_admin import form_of, price_form
from tests.billing.test_price_changes import DEARER, use

pytestmark = pytest.mark.usefixtures("books")
ADD = "/admin/catalog/priceversion/add/"
State = PriceChange.State


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def tenant(version: ModelVersion) -> Organization:
    made = factories.make_organization()
    use(made, version, rows=10)
    return made


def form(version: ModelVersion, amount: str, **changes: Any) -> dict[str, Any]:
    return price_form(
        **{
            "model": str(version.model_id),
            "sku": "",
            "components-0-dimension": "row",
            "components-0-amount_nanos": amount,
            "components-0-per_quantity": "1",
            **changes,
        }
    )


def deed(change: PriceChange, name: str) -> str:
    return reverse(f"admin:catalog_pricechange_{name}", args=[change.pk])


def page_of(change: PriceChange) -> str:
    return reverse("admin:catalog_pricechange_change", args=[change.pk])


def test_a_dearer_price_is_only_proposed_and_shows_last_month(
    client: Client, operator: User, version: ModelVersion, tenant: Organization
) -> None:
    answer = client.post(ADD, form(version, "0.00004", reason="Power"), follow=True)

    change = PriceChange.objects.get()
    assert (change.state, change.proposed_by, change.reason) == (State.PROPOSED, operator, "Power")
    page = answer.content.decode()
    assert "The price waits to be approved." in page
    for text in (tenant.slug, "$0.0002", "$0.0004", "Somebody else than its proposer"):
        assert text in page
    assert PriceVersion.objects.filter(model=version.model).count() == 1


def test_who_proposed_a_price_cannot_approve_it(
    client: Client, operator: User, version: ModelVersion, tenant: Organization
) -> None:
    change = price_changes.propose(Target(version.model), DEARER, actor=operator)
    address = deed(change, "approve")

    answer = client.post(address, form_of(client, address, reason="Mine"))

    assert answer.status_code == 200
    assert "somebody else than the one who proposed it" in answer.content.decode()
    change.refresh_from_db()
    assert change.state == State.PROPOSED


def test_another_operator_approves_it(
    client: Client, operator: User, version: ModelVersion, tenant: Organization
) -> None:
    other = factories.make_user(is_staff=True)
    change = price_changes.propose(Target(version.model), DEARER, actor=other)
    address = deed(change, "approve")
    assert address in client.get(page_of(change)).content.decode()

    client.post(address, form_of(client, address, reason="Agreed"))

    change.refresh_from_db()
    assert (change.state, change.decided_by) == (State.APPROVED, operator)
    assert AuditEntry.objects.get(action="price.approved").reason == "Agreed"
    page = client.get(page_of(change)).content.decode()
    assert address not in page


@pytest.mark.parametrize(("name", "state"), [("reject", "rejected"), ("withdraw", "withdrawn")])
def test_a_proposal_is_rejected_or_withdrawn_with_a_reason(
    client: Client,
    operator: User,
    version: ModelVersion,
    tenant: Organization,
    name: str,
    state: str,
) -> None:
    change = price_changes.propose(Target(version.model), DEARER, actor=operator)
    address = deed(change, name)

    client.post(address, form_of(client, address, reason="Too much"))

    change.refresh_from_db()
    assert (change.state, change.decision_reason) == (state, "Too much")


def test_a_cheaper_price_waits_if_its_proposer_wants_to_see_the_preview_first(
    client: Client, operator: User, version: ModelVersion, tenant: Organization
) -> None:
    client.post(ADD, form(version, "0.00001", only_propose="on"))

    change = PriceChange.objects.get()
    assert change.state == State.PROPOSED
    address = deed(change, "approve")
    client.post(address, form_of(client, address, reason="Looks right"))
    change.refresh_from_db()
    assert change.state == State.APPROVED


def test_tiers_are_entered_as_rows(client: Client, operator: User, version: ModelVersion) -> None:
    second = {
        "components-TOTAL_FORMS": "2",
        "components-1-dimension": "row",
        "components-1-from_quantity": "1000",
        "components-1-amount_nanos": "0.00001",
        "components-1-per_quantity": "1",
    }

    client.post(ADD, form(version, "0.00002", **second))

    change = PriceChange.objects.get()
    assert change.components == {"row": [[0, 20_000, 1], [1000, 10_000, 1]]}
    page = client.get(f"/admin/catalog/priceversion/{change.price_version_id}/change/")
    assert "$0.00002 / row up to 1,000, then $0.00001 / row" in page.content.decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"components-0-from_quantity": "5"},
        {"components-0-from_quantity": "-1"},
        {"components-0-dimension": "output_token"},
        {"components-0-dimension": "gold"},
    ],
)
def test_what_cannot_be_a_price_is_said_on_the_form(
    client: Client, operator: User, version: ModelVersion, changes: dict[str, str]
) -> None:
    answer = client.post(ADD, form(version, "0.00002", **changes))

    assert answer.status_code == 200
    assert not PriceChange.objects.exists()


def test_deciding_needs_the_right_and_a_post(
    client: Client, version: ModelVersion, tenant: Organization
) -> None:
    change = price_changes.propose(Target(version.model), DEARER, actor=None)
    support = factories.make_user(is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(support)

    assert client.get(page_of(change)).status_code == 200
    for name in ("approve", "reject", "withdraw"):
        assert client.get(deed(change, name)).status_code == 403
        form = {"reason": "Mine", "submission": "0" * 32}
        assert client.post(deed(change, name), form).status_code == 403
    change.refresh_from_db()
    assert change.state == State.PROPOSED
