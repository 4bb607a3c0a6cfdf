from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from billing import charge_refunds, ledger, payouts, shares
from billing.invariants import violations
from billing.models import (
    Adjustment,
    ChargeRefund,
    ChargeRefundRun,
    Hold,
    LedgerTransaction,
    Payout,
    PayoutAccount,
    ShareVersion,
)
from billing.stripe import client as stripe_client
from billing.stripe.fake import Fault
from tests.billing.publishing import PART, PRICE, earn, make_seller, onboard, owed, transferred
from tests.factories import make_user

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("fake_stripe"),
]


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture(autouse=True)
def _books(db: None) -> Any:
    yield
    assert violations() == []


def address(name: str, *args: object) -> str:
    return reverse(f"admin:billing_{name}", args=args)


def fill(client: Client, page: str, **fields: str) -> dict[str, str]:
    """Open a form as a browser does: its hidden fields, and what a person types."""
    hidden = re.search(r'name="submission" value="([^"]+)"', client.get(page).content.decode())
    assert hidden is not None
    return {"submission": hidden[1], "reason": "Because", **fields}


def send(client: Client, page: str, **fields: str) -> str:
    answer = client.post(page, fill(client, page, **fields), follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


# Shares ----------------------------------------------------------------------------------------


def test_a_share_is_added_for_one_model(client: Client, operator: User) -> None:
    _organization, version = make_seller(calls=0)
    path = version.model.path

    send(client, address("shareversion_add"), model=path, percent="92.5")

    assert shares.current(version.model).publisher_bps == 9250
    assert ShareVersion.objects.get(model=version.model).created_by == operator
    assert path in client.get(address("shareversion_changelist")).content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [("percent", "101"), ("percent", "-1"), ("publisher", "nobody"), ("model", "no/body")],
)
def test_a_share_that_cannot_be_is_refused_on_the_form(
    client: Client, operator: User, field: str, value: str
) -> None:
    before = ShareVersion.objects.count()

    client.post(
        address("shareversion_add"),
        fill(client, address("shareversion_add"), **{"percent": "50", field: value}),
    )

    assert ShareVersion.objects.count() == before


# Charges ---------------------------------------------------------------------------------------


def test_a_charge_is_given_back_from_the_calls_page_once_per_form(
    client: Client, operator: User
) -> None:
    organization, version = make_seller(calls=0)
    (hold_id,) = earn(version)
    page = address("hold_refund_charge", hold_id)
    form = fill(client, page, amount="5.00")

    for _ in range(2):
        assert client.post(page, form).status_code == 302

    refund = ChargeRefund.objects.get()
    assert (refund.amount_nanos, refund.actor, refund.reason) == (
        5_000_000_000,
        operator,
        "Because",
    )
    send(client, page, amount="")
    assert charge_refunds.left_of(Hold.objects.get(pk=hold_id)) == 0
    assert owed(organization) == 0


def test_more_than_the_charge_is_refused_on_the_form(client: Client, operator: User) -> None:
    (hold_id,) = earn(make_seller(calls=0)[1])

    shown = send(client, address("hold_refund_charge", hold_id), amount="20.01")

    assert "Less is left" in shown
    assert not ChargeRefund.objects.exists()


def test_all_charges_of_a_version_are_given_back(client: Client, operator: User) -> None:
    _organization, version = make_seller(calls=0)
    earn(version, calls=2)
    now = timezone.now()

    send(
        client,
        address("chargerefundrun_add"),
        version=version.path,
        since=f"{now - timedelta(hours=1):%Y-%m-%d %H:%M}",
        until=f"{now + timedelta(hours=1):%Y-%m-%d %H:%M}",
    )
    charge_refunds.resume_runs()

    assert ChargeRefundRun.objects.get().state == "done"
    assert sum(each.amount_nanos for each in ChargeRefund.objects.all()) == 2 * PRICE
    listed = client.get(address("chargerefundrun_changelist")).content.decode()
    assert "$40.000000246" in listed


# Payouts ---------------------------------------------------------------------------------------


def test_an_operator_pays_now_and_takes_back(client: Client, operator: User) -> None:
    organization, _ = make_seller()
    account = onboard(organization)

    send(client, address("payoutaccount_pay_now", account.pk))

    payout = Payout.objects.get()
    assert payout.state == Payout.State.PAID
    assert payout.ledger_transaction.actor == operator
    assert payout.ledger_transaction.reason == "Because"
    assert transferred(organization) == 1600
    send(client, address("payout_take_back", payout.pk))
    assert transferred(organization) == 0
    assert owed(organization) == PART
    assert AuditEntry.objects.filter(action="payout.take_back", actor=operator).exists()


def test_a_payout_that_is_not_known_is_sent_again(client: Client, operator: User) -> None:
    organization, _ = make_seller()
    account = onboard(organization)
    stripe_client.fake().fail(Fault.AFTER_SEND, "POST /v1/transfers")

    shown = send(client, address("payoutaccount_pay_now", account.pk))
    assert "Not known yet" in shown
    send(client, address("payout_send_again", Payout.objects.get().pk))

    assert Payout.objects.get().state == Payout.State.PAID
    assert transferred(organization) == 1600


def test_why_nothing_can_be_paid_is_said(client: Client, operator: User) -> None:
    organization, _ = make_seller()
    account = onboard(organization, deposit=0)

    shown = send(client, address("payoutaccount_pay_now", account.pk))

    assert "balance at Stripe is too low" in shown
    assert not Payout.objects.exists()


def test_stripe_is_asked_how_an_account_is(client: Client, operator: User) -> None:
    organization, _ = make_seller(calls=0)
    account = onboard(organization)
    stripe_client.fake().people.set_receiving(account.stripe_account, receives=False)

    send(client, address("payoutaccount_ask_stripe", account.pk))

    assert not PayoutAccount.objects.get().payouts_enabled


# Corrections -----------------------------------------------------------------------------------


def test_an_adjustment_is_booked_and_taken_back(client: Client, operator: User) -> None:
    ledger.account(ledger.SUSPENSE)
    ledger.account(ledger.FEES)
    entry = {"debit": "platform:suspense", "credit": "stripe:fees", "amount": "3.00"}

    send(client, address("adjustment_add"), **entry)

    booked = Adjustment.objects.get().ledger_transaction
    assert booked is not None
    assert booked.actor == operator
    send(client, address("ledgertransaction_take_back", booked.pk))
    assert ledger.balance_of(ledger.SUSPENSE) == 0
    page = client.get(address("ledgertransaction_change", booked.pk)).content.decode()
    assert "take-back" not in page


def test_another_operator_approves_if_the_site_says_so(
    client: Client, operator: User, settings: Any
) -> None:
    settings.TWO_PERSON_CORRECTIONS = True
    ledger.account(ledger.SUSPENSE)
    ledger.account(ledger.FEES)
    entry = {"debit": "platform:suspense", "credit": "stripe:fees", "amount": "3.00"}
    send(client, address("adjustment_add"), **entry)
    adjustment = Adjustment.objects.get()

    shown = send(client, address("adjustment_approve", adjustment.pk))
    assert "Another operator" in shown
    client.force_login(User.objects.create_superuser("second@example.com"))
    send(client, address("adjustment_approve", adjustment.pk))

    assert Adjustment.objects.get().state == "booked"
    assert LedgerTransaction.objects.get(kind="correction").reason == "Because"


def test_an_adjustment_of_nothing_known_is_refused(client: Client, operator: User) -> None:
    page = address("adjustment_add")
    form = fill(client, page, debit="no:such", credit="stripe:fees", amount="3.00")

    assert "no such account" in client.post(page, form).content.decode()


@pytest.mark.parametrize("page", ["shareversion_add", "adjustment_add", "chargerefundrun_add"])
def test_who_may_only_look_cannot_ask(client: Client, page: str) -> None:
    client.force_login(make_user(is_staff=True))

    assert client.get(address(page)).status_code == 403
    assert client.post(address(page), {}).status_code == 403


def test_who_may_only_look_cannot_press(client: Client) -> None:
    organization, version = make_seller(calls=0)
    (hold_id,) = earn(version)
    account = onboard(organization)
    payouts.run()
    client.force_login(make_user(is_staff=True))

    for page in [
        address("hold_refund_charge", hold_id),
        address("payoutaccount_pay_now", account.pk),
        address("payout_take_back", Payout.objects.get().pk),
        address("ledgertransaction_take_back", LedgerTransaction.objects.all()[0].pk),
    ]:
        assert client.post(page, {"reason": "x"}).status_code == 403
