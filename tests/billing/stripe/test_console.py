"""What operators see of Stripe, and what they may do about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from billing import stripe_ops, webhooks
from billing.admin.stripe import dashboard_link
from billing.models import StripeEvent, StripeOp
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import FakeStripe
from tests.billing.stripe_world import deliver_all, make_customer
from tests.billing.test_admin import form_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client, fake_stripe: FakeStripe) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def dead(fake_stripe: FakeStripe) -> StripeEvent:
    make_customer()
    deliver_all()
    StripeEvent.objects.update(state=StripeEvent.State.DEAD, last_error="ValueError: no")
    return StripeEvent.objects.get()


@pytest.fixture
def lost(db: None) -> StripeOp:
    """An operation that was sent yesterday, and whose outcome is not known."""

    def lose(params: Any, key: str) -> object:
        raise AmbiguousError("reset")

    with pytest.raises(AmbiguousError):
        stripe_ops.run("transfer", "7", lose, {"amount": 1})
    StripeOp.objects.update(first_sent_at=timezone.now() - timedelta(days=1))
    return StripeOp.objects.get()


def listed(client: Client, kind: str, **query: str) -> str:
    answer = client.get(reverse(f"admin:billing_{kind}_changelist"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_events_are_listed_by_state(client: Client, operator: User, dead: StripeEvent) -> None:
    assert dead.pk in listed(client, "stripeevent", state__exact="dead")
    assert dead.pk not in listed(client, "stripeevent", state__exact="done")
    assert dead.pk in listed(client, "stripeevent", q=dead.object_id)


def test_what_an_event_says_is_not_shown(client: Client, operator: User, dead: StripeEvent) -> None:
    page = client.get(reverse("admin:billing_stripeevent_change", args=[quote(dead.pk)]))

    assert page.status_code == 200
    assert "ValueError: no" in page.content.decode()
    assert "acme@example.com" not in page.content.decode()


def test_a_dead_event_is_handled_again(client: Client, operator: User, dead: StripeEvent) -> None:
    address = reverse("admin:billing_stripeevent_retry", args=[quote(dead.pk)])
    client.get(address)
    assert StripeEvent.objects.get().state == "dead"

    answer = client.post(address, form_of(client, address, reason="The bug is mended"))
    assert answer.status_code == 302
    webhooks.handle_due()

    assert StripeEvent.objects.get().state == "done"
    entry = AuditEntry.objects.get(action="stripe_event.retried")
    assert (entry.actor, entry.reason) == (operator, "The bug is mended")


def test_an_id_that_looks_quoted_leads_back_to_its_event(
    client: Client, operator: User, dead: StripeEvent
) -> None:
    # The console writes "_26" for "&" in addresses, and Stripe's ids are random.
    StripeEvent.objects.update(id="evt_26501e05a9")
    address = reverse("admin:billing_stripeevent_retry", args=[quote("evt_26501e05a9")])

    answer = client.post(address, form_of(client, address, reason="The bug is mended"), follow=True)

    assert answer.status_code == 200
    assert "evt_26501e05a9" in answer.content.decode()


def test_an_event_of_the_other_mode_stays_dead(
    client: Client, operator: User, dead: StripeEvent
) -> None:
    StripeEvent.objects.update(livemode=True)
    address = reverse("admin:billing_stripeevent_retry", args=[quote(dead.pk)])

    answer = client.post(address, form_of(client, address, reason="Why not"))

    assert answer.status_code == 200
    assert "can be handled again" in answer.content.decode()
    assert StripeEvent.objects.get().state == "dead"


def test_operations_of_unknown_outcome_are_listed(
    client: Client, operator: User, lost: StripeOp
) -> None:
    assert "transfer:7:a1" in listed(client, "stripeop", state__exact="unknown")
    assert "transfer:7:a1" not in listed(client, "stripeop", state__exact="ok")


@pytest.mark.parametrize(("found", "state"), [("tr_123", "ok"), ("", "rejected")])
def test_an_operator_says_what_happened(
    client: Client, operator: User, lost: StripeOp, found: str, state: str
) -> None:
    address = reverse("admin:billing_stripeop_decide", args=[lost.pk])

    answer = client.post(address, form_of(client, address, stripe_id=found, reason="Looked it up"))

    assert answer.status_code == 302
    op = StripeOp.objects.get()
    assert (op.state, op.stripe_id) == (state, found)
    entry = AuditEntry.objects.get(action="stripe_op.decided")
    assert (entry.actor, entry.details) == (operator, {"stripe_id": found})


def test_nobody_decides_while_the_site_can_find_out(
    client: Client, operator: User, lost: StripeOp
) -> None:
    StripeOp.objects.update(first_sent_at=timezone.now() - timedelta(hours=22))
    address = reverse("admin:billing_stripeop_decide", args=[lost.pk])

    answer = client.post(address, form_of(client, address, stripe_id="", reason="Impatience"))

    assert answer.status_code == 200
    assert StripeOp.objects.get().state == "unknown"


def test_after_nothing_is_there_it_is_sent_again(lost: StripeOp) -> None:
    sent: list[str] = []
    stripe_ops.decide(lost, "", actor=None, reason="Not there")

    def lose(params: Any, key: str) -> object:
        sent.append(key)
        raise AmbiguousError("reset")

    with pytest.raises(AmbiguousError):
        stripe_ops.run("transfer", "7", lose, {"amount": 1})

    assert sent == ["transfer:7:a2"]


def test_the_front_page_says_whether_money_is_real(
    client: Client, operator: User, dead: StripeEvent, lost: StripeOp, settings: Any
) -> None:
    page = client.get(reverse("admin:index")).content.decode()
    assert "No key" in page
    assert "1 dead webhooks, 1 operations of unknown outcome" in page
    StripeEvent.objects.all().delete()
    StripeOp.objects.all().delete()

    for key, words in {"sk_test_1": "Test mode", "sk_live_1": "Real money moves"}.items():
        settings.STRIPE_SECRET_KEY = key
        assert words in client.get(reverse("admin:index")).content.decode()


def test_links_lead_to_the_right_mode(settings: Any) -> None:
    assert dashboard_link("/events/", "evt_1", livemode=True) == "evt_1"
    settings.STRIPE_SECRET_KEY = "sk_live_1"
    assert "stripe.com/events/evt_1" in dashboard_link("/events/", "evt_1", livemode=True)
    assert "stripe.com/test/events/evt_1" in dashboard_link("/events/", "evt_1", livemode=False)
