"""The operator's pages about prepaid money."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Organization, User
from billing import promotions
from billing.models import AutoReload, CreditRefund, RedeemCode, TopUp
from billing.money import NANOS
from billing.stripe.fake import FakeStripe
from tests.billing.prepaid import available, bought, buy, paid, reload_at
from tests.billing.stripe_world import deliver_all
from tests.billing.test_admin import form_of
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


def address(name: str, pk: object) -> str:
    return reverse(f"admin:billing_{name}", args=[pk])


def test_the_lists_and_pages_load(
    fake_stripe: FakeStripe, client: Client, operator: User, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    reload_at(organization)
    promotions.make_code(NANOS, actor=operator)
    fake_stripe.people.dispute(top_up.charge, 300)
    deliver_all()
    names = ["topup", "creditrefund", "dispute", "creditgrant", "redeemcode", "autoreload"]

    for name in names:
        listed = client.get(reverse(f"admin:billing_{name}_changelist"))
        assert listed.status_code == 200
        for link in re.findall(rf"/admin/billing/{name}/[\w-]+/change/", listed.content.decode()):
            assert client.get(link).status_code == 200

    disputes = client.get(reverse("admin:billing_dispute_changelist")).content.decode()
    assert "$3.00" in disputes
    assert "frozen" in disputes


def test_an_operator_refunds_once_per_form(
    fake_stripe: FakeStripe, client: Client, operator: User, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    deed = address("topup_refund", top_up.pk)
    form = form_of(client, deed, amount="4", reason="Asked by mail")

    for _ in range(2):
        assert client.post(deed, form).status_code == 302

    refund = CreditRefund.objects.get()
    assert (refund.actor, refund.reason, refund.state) == (operator, "Asked by mail", "refunded")
    assert paid(organization) == 6 * NANOS
    assert AuditEntry.objects.get(action="credit_refund.started").actor == operator


def test_a_refund_that_cannot_be_is_told(
    fake_stripe: FakeStripe, client: Client, operator: User, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    deed = address("topup_refund", top_up.pk)

    page = client.post(deed, form_of(client, deed, amount="11", reason="All")).content.decode()
    assert "At most 10 of this top-up" in page
    fake_stripe.people.dispute(top_up.charge)
    page = client.post(deed, form_of(client, deed, amount="4", reason="All")).content.decode()

    assert "Stripe refused (charge_disputed)" in page


def test_an_operator_looks_again(
    fake_stripe: FakeStripe, client: Client, operator: User, organization: Organization
) -> None:
    top_up = buy(fake_stripe, organization)
    fake_stripe.post.drop()
    deed = address("topup_look_again", top_up.pk)

    client.post(deed, form_of(client, deed, reason="The webhook was lost"))

    top_up.refresh_from_db()
    assert (top_up.state, paid(organization)) == ("credited", 10 * NANOS)


def test_a_code_is_shown_once_and_works(
    client: Client, operator: User, organization: Organization
) -> None:
    add = reverse("admin:billing_redeemcode_add")
    assert client.get(add).status_code == 200
    form = {"amount": "3", "max_redemptions": "2", "credit_days": "30", "note": "Fair"}

    answer = client.post(add, form)

    shown = re.search(r"<code>([A-Z2-7-]+)</code>", answer.content.decode())
    assert shown is not None
    assert "no-store" in answer["Cache-Control"]
    code = RedeemCode.objects.get()
    assert (code.amount_nanos, code.max_redemptions, code.credit_days) == (3 * NANOS, 2, 30)
    assert (code.created_by, code.note) == (operator, "Fair")
    listed = client.get(reverse("admin:billing_redeemcode_changelist")).content.decode()
    assert shown[1][-4:] in listed
    assert shown[1] not in listed
    promotions.redeem(organization, shown[1])
    assert available(organization) == 8 * NANOS


def test_a_code_is_disabled(client: Client, operator: User, organization: Organization) -> None:
    code, _ = promotions.make_code(NANOS, actor=make_user())
    deed = address("redeemcode_disable", code.pk)

    client.post(deed, form_of(client, deed, reason="Leaked"))

    code.refresh_from_db()
    assert code.is_disabled
    assert AuditEntry.objects.get(action="redeem_code.disabled").reason == "Leaked"


def test_automatic_top_ups_are_paused(
    client: Client, operator: User, organization: Organization
) -> None:
    chosen = reload_at(organization)
    deed = address("autoreload_pause", chosen.pk)

    client.post(deed, form_of(client, deed, reason="Suspicious"))

    assert AutoReload.objects.get().paused_reason == "Suspicious"


def test_money_is_not_edited_by_hand(
    fake_stripe: FakeStripe, client: Client, operator: User, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)

    page = address("topup_change", top_up.pk)

    assert client.post(page, {"state": "pending"}).status_code == 403
    assert client.get(reverse("admin:billing_topup_add")).status_code == 403
    assert TopUp.objects.get().state == "credited"
