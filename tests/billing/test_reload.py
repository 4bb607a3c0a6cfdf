"""Auto-reload: one attempt at a time, each charged once, and a pause after a decline."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import AuditEntry, Organization, OutgoingMail, User
from billing import ids, reload, wallets
from billing.errors import TopUpError
from billing.models import AutoReload, StripeOp, TopUp
from billing.money import NANOS
from billing.stripe.fake import FakeStripe, Fault
from billing.stripe.fake.payments import PAYING_CARD
from tests.billing.prepaid import TEN, balances, paid, reload_at, save_card
from tests.billing.stripe_world import deliver_all
from tests.billing.threads import in_threads
from tests.factories import make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
INTENTS = "POST /v1/payment_intents"
ASKS, DECLINES = "4000002500003155", "4000000000009995"


@pytest.fixture
def organization(owner: User) -> Organization:
    """An organization with one dollar, below the threshold of two."""
    return make_organization(owner=owner, credit_nanos=NANOS)


def attempts(fake: FakeStripe) -> int:
    """Return how many different payments were asked for."""
    return len({call.key for call in fake.calls(INTENTS)})


def paused(organization: Organization) -> str:
    return AutoReload.objects.get(organization=organization).paused_reason


def test_credit_is_bought_when_little_is_left(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    card = save_card(fake_stripe, organization)
    reload_at(organization)

    assert reload.run_due() == 1

    top_up = TopUp.objects.get()
    assert (top_up.kind, top_up.state, paid(organization)) == ("auto", "credited", TEN)
    asked = fake_stripe.calls(INTENTS)[0]
    assert asked.key == f"autotop:{organization.pk}:{top_up.pk}:a1"
    assert (asked.params["payment_method"], asked.params["off_session"]) == (card, True)
    assert balances(organization)["fees"] == 59 * NANOS // 100
    deliver_all()
    assert (reload.run_due(), paid(organization)) == (0, TEN)


def test_enough_credit_buys_nothing(fake_stripe: FakeStripe, organization: Organization) -> None:
    save_card(fake_stripe, organization)
    reload_at(organization, threshold=1)

    assert reload.run_due() == 0


@pytest.mark.parametrize("why", ["off", "no card", "frozen", "paused"])
def test_nothing_is_charged_without_leave(
    fake_stripe: FakeStripe, organization: Organization, why: str
) -> None:
    if why != "no card":
        save_card(fake_stripe, organization)
    chosen = reload_at(organization)
    if why == "off":
        chosen.is_enabled = False
    if why == "paused":
        chosen.paused_reason = "insufficient_funds"
    chosen.save()
    if why == "frozen":
        Organization.objects.update(is_frozen=True)

    assert reload.run_due() == 0

    assert attempts(fake_stripe) == 0


@pytest.mark.django_db(transaction=True)
def test_many_reloads_at_once_make_one_pending_top_up(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 17: lago-api#1962, a job that ran often made many pending top-ups."""
    save_card(fake_stripe, organization)
    reload_at(organization)
    in_threads(4, reload.run_due)
    deliver_all()

    assert (TopUp.objects.count(), attempts(fake_stripe), paid(organization)) == (1, 1, TEN)


def test_the_database_refuses_a_second_pending_one(organization: Organization) -> None:
    def add() -> None:
        with transaction.atomic():
            TopUp.objects.create(
                pk=ids.uuid7(),
                organization=organization,
                kind="auto",
                credit_nanos=TEN,
                charge_minor=1000,
            )

    add()

    with pytest.raises(IntegrityError):
        add()


@pytest.mark.parametrize(
    "fault", [Fault.BEFORE_SEND, Fault.AFTER_SEND, Fault.CONFLICT, Fault.RATE_LIMITED]
)
def test_an_unknown_outcome_is_asked_for_again_under_the_same_key(
    fake_stripe: FakeStripe, organization: Organization, fault: Fault
) -> None:
    save_card(fake_stripe, organization)
    reload_at(organization)
    fake_stripe.fail(fault, INTENTS)

    assert reload.run_due() == 0
    assert TopUp.objects.get().state == "pending"
    assert reload.run_due() == 1

    assert (attempts(fake_stripe), paid(organization)) == (1, TEN)


def test_after_a_day_stripe_is_looked_at_before_anything_is_charged(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    save_card(fake_stripe, organization)
    reload_at(organization)
    fake_stripe.fail(Fault.AFTER_SEND, INTENTS)
    reload.run_due()
    fake_stripe.post.drop()
    StripeOp.objects.filter(kind="autotop").update(
        first_sent_at=timezone.now() - timedelta(hours=30)
    )

    assert reload.run_due() == 1

    assert (attempts(fake_stripe), paid(organization)) == (1, TEN)


def test_the_webhook_credits_what_the_lost_answer_did_not(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    save_card(fake_stripe, organization)
    reload_at(organization)
    fake_stripe.fail(Fault.AFTER_SEND, INTENTS)
    reload.run_due()

    deliver_all()
    reload.run_due()

    assert (attempts(fake_stripe), paid(organization)) == (1, TEN)


@pytest.mark.parametrize(
    ("card", "reason"),
    [(DECLINES, "insufficient_funds"), (ASKS, "authentication_required")],
)
def test_a_decline_pauses_and_is_told(
    fake_stripe: FakeStripe, organization: Organization, card: str, reason: str
) -> None:
    save_card(fake_stripe, organization, card)
    reload_at(organization)

    assert reload.run_due() == 0
    deliver_all()
    assert reload.run_due() == 0

    assert (attempts(fake_stripe), paid(organization)) == (1, 0)
    assert paused(organization) == reason
    top_up = TopUp.objects.get()
    assert (top_up.state, top_up.failure, top_up.payment_intent[:3]) == ("failed", reason, "pi_")
    mail = OutgoingMail.objects.get(template="mail/auto_reload_paused")
    assert mail.context["needs_person"] == (card == ASKS)
    assert AuditEntry.objects.filter(action="auto_reload.paused").count() == 1


def test_saving_the_settings_lifts_the_pause(
    fake_stripe: FakeStripe, organization: Organization, owner: User
) -> None:
    save_card(fake_stripe, organization, DECLINES)
    reload_at(organization)
    reload.run_due()
    save_card(fake_stripe, organization, PAYING_CARD)

    reload.configure(
        organization,
        is_enabled=True,
        threshold_nanos=2 * NANOS,
        amount_nanos=TEN,
        monthly_limit_nanos=10 * TEN,
        actor=owner,
    )

    assert reload.run_due() == 1
    assert paid(organization) == TEN


def test_without_a_card_it_cannot_be_switched_on(organization: Organization, owner: User) -> None:
    with pytest.raises(TopUpError):
        reload.configure(
            organization,
            is_enabled=True,
            threshold_nanos=NANOS,
            amount_nanos=TEN,
            monthly_limit_nanos=TEN,
            actor=owner,
        )


def test_the_months_limit_stops_it_and_is_told_once(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    save_card(fake_stripe, organization)
    reload_at(organization, threshold=100, limit=25)

    done = [reload.run_due() for _ in range(4)]

    assert done == [1, 1, 0, 0]
    assert paid(organization) == 2 * TEN
    assert OutgoingMail.objects.filter(template="mail/auto_reload_limit").count() == 1
    TopUp.objects.update(created_at=timezone.now() - timedelta(days=40))
    assert reload.run_due() == 1


def test_one_that_fails_does_not_keep_others_waiting(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    other = make_organization(credit_nanos=0)
    for each in (organization, other):
        save_card(fake_stripe, each)
        reload_at(each)
    fake_stripe.fail(Fault.BEFORE_SEND, INTENTS)

    assert reload.run_due() == 1
    assert reload.run_due() == 1

    assert paid(organization) == paid(other) == TEN


def test_a_removed_card_is_not_charged(fake_stripe: FakeStripe, organization: Organization) -> None:
    card = save_card(fake_stripe, organization)
    reload_at(organization)
    fake_stripe.people.remove_card(card)
    deliver_all()

    assert reload.run_due() == 0

    assert wallets.of(organization).payment_method == ""
    assert attempts(fake_stripe) == 0
