"""Whatever order things go wrong in, each payment and each transfer counts once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing import stripe_ops, webhooks
from billing.models import StripeEvent, StripeOp
from billing.stripe import client, objects
from billing.stripe.errors import StripeCallError
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.stripe.test_ops import Payout
from tests.billing.stripe_world import deliver_all, make_customer, open_topup

pytestmark = pytest.mark.django_db

_numbers = itertools.count(1)
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
HOUR = 3600


class Numbered(Payout):
    """A payout of its own for each example."""

    def __init__(self, fake: FakeStripe) -> None:
        super().__init__(fake)
        self.number = str(next(_numbers))
        self.group = f"payout:{self.number}"
        self.params |= {"transfer_group": self.group}

    def find(self) -> objects.Transfer | None:
        found = client.gateway().list_transfers(transfer_group=self.group)
        return found[0] if found else None

    def attempt(self) -> StripeOp | None:
        try:
            return stripe_ops.run("transfer", self.number, self.send, self.params, find=self.find)
        except StripeCallError:
            return None

    def sent(self) -> list[str]:
        """Look behind the counter: the way there may be broken."""
        found = self.fake.people.all("transfer", self.group)
        return [each["id"] for each in found if each["amount"] == 300]


@BOUNDED
@given(script=st.lists(st.sampled_from(list(Fault)) | st.integers(1, 50), max_size=8))
def test_any_script_of_faults_and_delays_pays_once(
    fake_stripe: FakeStripe, script: list[Fault | int]
) -> None:
    """Invariant 34: any fault script pays each payout exactly once, and we know it."""
    payout = Numbered(fake_stripe)
    for step in script:
        if isinstance(step, Fault):
            fake_stripe.fail(step, "* /v1/transfers")
            payout.attempt()
        else:
            payout.later(step * HOUR)
        assert len(payout.sent()) <= 1

    # The faults are over; a failure that Stripe keeps under the key is over after a day.
    done = payout.attempt()
    while done is None:
        payout.later(24 * HOUR)
        done = payout.attempt()

    assert done.state == "ok"
    assert payout.sent() == [done.stripe_id]


HISTORIES = st.lists(
    st.sampled_from(["paid", "slow", "slow_failed", "expired", "declined"]), min_size=1, max_size=4
)


@BOUNDED
@given(
    history=HISTORIES,
    seed=st.integers(0, 10**6),
    copies=st.integers(1, 3),
    faults=st.integers(0, 3),
    lost=st.sampled_from(["", "checkout.session.completed", "checkout.session.async*"]),
)
# From the last to the first: what one that asks for nothing leaves over must not meet the next.
@example(history=["paid"], seed=0, copies=1, faults=0, lost="")
@example(history=["declined"], seed=0, copies=1, faults=3, lost="")
def test_any_history_in_any_order_credits_each_payment_once(
    fake_stripe: FakeStripe, history: list[str], seed: int, copies: int, faults: int, lost: str
) -> None:
    """Invariant 12: permuted, duplicated, lost or failing webhooks change nothing."""
    # A history without any call leaves its faults to the next one.
    fake_stripe.recover()
    credited: list[str] = []
    handlers = webhooks.HANDLERS.copy()
    webhooks.HANDLERS.clear()

    @webhooks.handles(
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
        fetch=lambda event: client.gateway().retrieve_session(event.object_id),
    )
    def credit(event: StripeEvent, session: objects.CheckoutSession) -> None:
        row: dict[str, Any] = {"kind": "credit", "business_key": session.id, "params": {}}
        if session.is_paid:
            _, is_new = StripeOp.objects.get_or_create(idem_key=session.id, defaults=row)
            credited.extend([session.id] * is_new)

    try:
        paid = [name for kind in history if (name := live(fake_stripe, kind))]
        fake_stripe.post.duplicate(copies)
        fake_stripe.post.shuffle(seed)
        if lost:
            fake_stripe.post.drop(type=lost)
        if faults:
            fake_stripe.fail(Fault.BEFORE_SEND, "GET /v1/checkout/*", times=faults)
        for _ in range(faults + 1):
            deliver_all()
        webhooks.backfill()
        for _ in range(faults + 1):
            deliver_all()
    finally:
        webhooks.HANDLERS.clear()
        webhooks.HANDLERS.update(handlers)

    assert sorted(credited) == sorted(paid)


def live(fake: FakeStripe, kind: str) -> str | None:
    """Let one payment happen; returns its session if the money arrived."""
    number = str(next(_numbers))
    session = open_topup(make_customer(number), reference=number).id
    if kind == "expired":
        fake.people.expire(session)
        return None
    if kind == "declined":
        with pytest.raises(Exception, match="declined"):
            fake.people.pay(session, "4000000000000002")
        return None
    fake.people.pay(session, later=kind != "paid")
    if kind != "paid":
        fake.people.settle(session, succeeded=kind == "slow")
    return None if kind == "slow_failed" else session
