from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, Organization, User
from billing import budgets, invariants
from billing.models import CreditGrant, LedgerTransaction
from catalog.models import PriceVersion
from tests.maas_site.rows import make_call, make_organization, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def organization() -> Organization:
    return make_organization(nanos=0)


def deed(organization: Organization, name: str) -> str:
    return reverse(f"admin:accounts_organization_{name}", args=[organization.pk])


def form_of(client: Client, address: str, **fields: str) -> dict[str, str]:
    """Open a form as a browser does: its hidden fields, and what a person types."""
    page = client.get(address).content.decode()
    hidden = re.search(r'name="submission" value="([^"]+)"', page)
    assert hidden is not None
    return {"submission": hidden[1], **fields}


def available(organization: Organization) -> int:
    return budgets.wallet(organization).available


def test_credit_is_granted_with_a_transaction_and_an_audit_entry(
    client: Client, operator: User, organization: Organization
) -> None:
    address = deed(organization, "grant_credit")

    answer = client.post(address, form_of(client, address, amount="2.50", reason="Goodwill"))

    assert answer.status_code == 302
    assert available(organization) == 2_500_000_000
    booked = LedgerTransaction.objects.get(kind="credit_granted")
    assert (booked.actor, booked.reason) == (operator, "Goodwill")
    entry = AuditEntry.objects.get(action="credit.granted")
    assert (entry.actor, entry.organization, entry.reason) == (operator, organization, "Goodwill")
    assert invariants.violations() == []


def test_granted_credit_may_lapse(
    client: Client, operator: User, organization: Organization
) -> None:
    address = deed(organization, "grant_credit")

    client.post(address, form_of(client, address, amount="2.50", days="30", reason="Trial"))

    grant = CreditGrant.objects.get(organization=organization)
    assert grant.expires_at is not None
    assert (grant.expires_at - timezone.now()).days in {29, 30}
    refused = client.post(address, form_of(client, address, amount="1", days="0", reason="No"))
    assert refused.status_code == 200  # the form again, with the error
    assert CreditGrant.objects.filter(organization=organization).count() == 1


def test_a_form_sent_twice_grants_once(
    client: Client, operator: User, organization: Organization
) -> None:
    address = deed(organization, "grant_credit")
    form = form_of(client, address, amount="2.50", reason="Goodwill")

    client.post(address, form)
    client.post(address, form)

    assert available(organization) == 2_500_000_000
    assert AuditEntry.objects.filter(action="credit.granted").count() == 1


def test_two_forms_grant_twice(client: Client, operator: User, organization: Organization) -> None:
    address = deed(organization, "grant_credit")

    client.post(address, form_of(client, address, amount="1", reason="First"))
    client.post(address, form_of(client, address, amount="1", reason="Second"))

    assert available(organization) == 2_000_000_000


def test_a_form_sent_again_with_another_amount_says_what_was_booked(
    client: Client, operator: User, organization: Organization
) -> None:
    address = deed(organization, "grant_credit")
    form = form_of(client, address, amount="1", reason="Goodwill")
    client.post(address, form)

    page = client.post(address, {**form, "amount": "99"}, follow=True).content.decode()

    assert available(organization) == 1_000_000_000
    assert "$1.00 granted." in page
    assert "$99.00 granted." not in page


def test_credit_is_taken_back_even_below_zero(
    client: Client, operator: User, organization: Organization
) -> None:
    address = deed(organization, "take_credit")

    client.post(address, form_of(client, address, amount="0.5", reason="Chargeback"))

    assert available(organization) == -500_000_000
    assert AuditEntry.objects.get(action="credit.taken").reason == "Chargeback"
    assert invariants.violations() == []


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ("1", ""),
        ("1", "   "),
        ("", "Goodwill"),
        ("0", "Goodwill"),
        ("-1", "Goodwill"),
        ("1e3", "Goodwill"),
        ("0.0000000001", "Goodwill"),
        ("NaN", "Goodwill"),
        ("100000.01", "Goodwill"),
    ],
)
def test_a_form_that_is_not_right_books_nothing(
    client: Client, operator: User, organization: Organization, amount: str, reason: str
) -> None:
    address = deed(organization, "grant_credit")

    answer = client.post(address, form_of(client, address, amount=amount, reason=reason))

    assert answer.status_code == 200
    assert not LedgerTransaction.objects.exists()


@pytest.mark.parametrize("name", ["grant_credit", "take_credit", "freeze", "unfreeze"])
def test_looking_at_a_form_changes_nothing_and_needs_the_right(
    client: Client, organization: Organization, name: str
) -> None:
    support = User.objects.create_user("support@example.com", is_staff=True)
    support.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(support)

    assert client.get("/admin/accounts/organization/").status_code == 200
    assert client.get(deed(organization, name)).status_code == 403
    form = {"amount": "1", "reason": "Mine", "submission": "0" * 32}
    assert client.post(deed(organization, name), form).status_code == 403
    assert not LedgerTransaction.objects.exists()


def test_a_form_of_another_site_is_refused(organization: Organization) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("operator@example.com"))

    answer = strict.post(deed(organization, "grant_credit"), {"amount": "1", "reason": "Mine"})

    assert answer.status_code == 403


def test_an_organization_is_frozen_and_unfrozen_with_a_reason(
    client: Client, operator: User, organization: Organization
) -> None:
    for name, frozen in [("freeze", True), ("unfreeze", False)]:
        address = deed(organization, name)
        client.post(address, form_of(client, address, reason=f"Because: {name}"))

        organization.refresh_from_db()
        assert organization.is_frozen is frozen
        entry = AuditEntry.objects.get(action=f"organization.{'' if frozen else 'un'}frozen")
        assert entry.reason == f"Because: {name}"


def test_only_the_button_that_changes_something_is_offered(
    client: Client, operator: User, organization: Organization
) -> None:
    page = client.get(f"/admin/accounts/organization/{organization.pk}/change/").content.decode()

    assert deed(organization, "freeze") in page
    assert deed(organization, "unfreeze") not in page


def price_form(**changes: Any) -> dict[str, Any]:
    return {
        "model": "",
        "sku": "training.gpu",
        "min_charge_nanos": "0",
        "effective_from_0": "2020-01-01",
        "effective_from_1": "00:00:00",
        "components-TOTAL_FORMS": "1",
        "components-INITIAL_FORMS": "0",
        "components-MIN_NUM_FORMS": "1",
        "components-MAX_NUM_FORMS": "3",
        "components-0-dimension": "compute_ms",
        "components-0-amount_nanos": "0.0005",
        "components-0-per_quantity": "1000",
        **changes,
    }


def test_a_price_is_added_in_dollars_and_takes_effect_now_at_the_earliest(
    client: Client, operator: User
) -> None:
    answer = client.post("/admin/catalog/priceversion/add/", price_form())

    assert answer.status_code == 302
    price = PriceVersion.objects.get()
    component = price.components.get()
    assert (component.amount_nanos, component.per_quantity) == (500_000, 1000)
    assert price.effective_from.year > 2020
    assert price.created_by == operator
    entry = AuditEntry.objects.get(action="price.added")
    assert entry.details == {"compute_ms": [[0, 500_000, 1000]]}


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": ""},
        {"components-TOTAL_FORMS": "0"},
        {"components-0-amount_nanos": ""},
        {"components-0-amount_nanos": "-1"},
        {"components-0-amount_nanos": "0.0000000001"},
        {"components-0-per_quantity": "0"},
        {"min_charge_nanos": "-1"},
    ],
)
def test_a_price_that_is_not_right_is_not_added(
    client: Client, operator: User, changes: dict[str, str]
) -> None:
    answer = client.post("/admin/catalog/priceversion/add/", price_form(**changes))

    assert answer.status_code == 200
    assert not PriceVersion.objects.exists()


def test_a_price_is_of_a_model_or_of_an_sku_not_of_both(client: Client, operator: User) -> None:
    version = make_version(make_organization())
    before = PriceVersion.objects.count()

    answer = client.post(
        "/admin/catalog/priceversion/add/", price_form(model=str(version.model.pk))
    )

    assert answer.status_code == 200
    assert PriceVersion.objects.count() == before


def test_calls_are_found_by_hold_by_request_and_by_organization(
    client: Client, operator: User
) -> None:
    organization = make_organization()
    hold = make_call(organization, make_version(organization))
    make_call(make_organization(), make_version(organization))

    for text in (str(hold.pk), hold.pk.hex, hold.request_id, organization.slug):
        page = client.get("/admin/billing/hold/", {"q": text}).content.decode()
        assert re.findall(r"/admin/billing/hold/([0-9a-f-]+)/change/", page) == [str(hold.pk)]
    page = client.get("/admin/billing/hold/", {"q": "' OR 1=1"}).content.decode()
    assert "/change/" not in page
