"""Whatever order webhooks come in, and however often: the ledger is that of the orderly history."""

from __future__ import annotations

import itertools
import os
import random
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model, Sum

from accounts.models import Organization
from billing import budgets, settlement, webhooks
from billing.invariants import violations
from billing.models import (
    AutoReload,
    BillingPeriod,
    CreditRefund,
    Dispute,
    Invoice,
    LedgerEntry,
    Payout,
    PayoutAccount,
    StripeEvent,
    TopUp,
    Wallet,
)
from billing.stripe import client, signatures
from tests.billing.postpaid_world import Clock
from tests.billing.stripe.histories import HISTORIES
from tests.billing.stripe.stage import Stage
from tests.billing.stripe_world import deliver_all

pytestmark = pytest.mark.django_db

# So many events are told in every order; of more, so many orders are drawn. What they do depends
# little on the database, and there are thousands: on PostgreSQL fewer.
ALL_ORDERS_UP_TO, DRAWN = {"sqlite": (5, 20), "postgresql": (3, 8)}[connection.vendor]
SEED = int(os.environ.get("HISTORIES_SEED") or secrets.randbelow(2**32))
MONEY_STATES: dict[type[Model], tuple[str, ...]] = {
    TopUp: ("kind", "state", "credit_nanos", "tax_minor", "clawed_back_nanos", "refunded_nanos"),
    CreditRefund: ("state", "amount_nanos"),
    Dispute: ("state", "amount_minor", "withdrawn_minor"),
    Invoice: ("number", "state", "total_minor", "credited_minor"),
    BillingPeriod: ("month", "state", "blocked"),
    # Not the card: of several that are left, the last one that was heard of is kept.
    Wallet: ("paid_nanos", "owed_nanos", "line_nanos", "subscribed_at"),
    AutoReload: ("is_enabled", "paused_reason"),
    Payout: ("state", "amount_minor", "reversed_minor"),
    PayoutAccount: ("payouts_enabled", "requirements", "bank_failure"),
    Organization: ("is_frozen",),
}
Snapshot = dict[str, Any]
Payloads = Sequence[bytes]


def snapshot() -> Snapshot:
    """Return all balances of the ledger, and the state of everything that is money."""
    balances: dict[str, int] = defaultdict(int)
    sums = LedgerEntry.objects.order_by().values_list("account__code")
    for code, nanos in sums.annotate(nanos=Sum("amount_nanos")).order_by():
        # Whose it is differs from one play of a history to the next.
        balances[re.sub(r":\d+:", ":*:", code)] += nanos
    states = {
        model.__name__: sorted(map(repr, model._default_manager.values_list(*fields)))
        for model, fields in MONEY_STATES.items()
    }
    return {**{code: nanos for code, nanos in balances.items() if nanos}, **states}


@contextmanager
def taken_back() -> Iterator[None]:
    """Let nothing of it stay in the database; Stripe forgets nothing."""
    # No block of its own: the site wants the outermost one for what must last.
    point = transaction.savepoint()
    yield
    transaction.savepoint_rollback(point)
    budgets._cache.clear()


@pytest.fixture
def new_stage(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Stage]]:
    """Make a stage with an empty Stripe of its own."""
    fakes = []

    def make(name: str) -> Stage:
        settings.FAKE_STRIPE_FILE = tmp_path / f"{name}.sqlite3"
        fakes.append(client.fake())
        return Stage(fakes[-1], Clock(monkeypatch))

    yield make
    for fake in fakes:
        fake.close()


def orderly(stage: Stage, history: str) -> Snapshot:
    """Let each webhook come at once, and return what that comes to."""
    for _ in HISTORIES[history].play(stage):
        deliver_all()
    return snapshot()


def late(stage: Stage, history: str) -> Payloads:
    """Let all of it happen, and return what Stripe has to say about it."""
    deeds = HISTORIES[history].play(stage)
    next(deeds)
    deliver_all()
    for _ in deeds:
        pass
    told = [each for each in stage.fake.post.due(500) if each.type in webhooks.HANDLERS]
    assert sorted(each.type for each in told) == sorted(HISTORIES[history].events)
    return [each.payload for each in told]


def tell(payloads: Payloads) -> None:
    """Let webhooks come one by one, each handled before the next one comes."""
    for payload in payloads:
        stored = webhooks.receive(payload, signatures.sign(payload, signatures.secrets()[0]))
        if stored is None:
            # Known: as if it came from another process that knows nothing of the first one.
            name = re.search(rb'"id": "(evt_\w+)"', payload)
            assert name is not None
            StripeEvent.objects.filter(pk=name[1].decode()).update(state=StripeEvent.State.RECEIVED)
        webhooks.handle_due()
    StripeEvent.objects.filter(state=StripeEvent.State.RECEIVED).update(next_attempt_at=None)
    webhooks.handle_due()
    assert not StripeEvent.objects.exclude(state=StripeEvent.State.DONE).exists()


def orders(payloads: Payloads) -> Iterator[Payloads]:
    """Yield every order, with the first one told again at the end; or draw some with more."""
    if len(payloads) <= ALL_ORDERS_UP_TO:
        for order in itertools.permutations(payloads):
            yield [*order, order[0]]
        return
    dice = random.Random(SEED)
    for _ in range(DRAWN):
        many = [*payloads, *dice.choices(payloads, k=len(payloads) // 2)]
        yield dice.sample(many, len(many))


def remember_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the fake once for what does not change any more: it is asked thousands of times."""
    ask, known = stage.fake.request, dict[tuple[str, str], Any]()

    def request(method: str, url: str, headers: Any, post_data: Any = None, **more: Any) -> Any:
        if method != "get":
            known.clear()
            return ask(method, url, headers, post_data, **more)
        key = (url, (headers or {}).get("Stripe-Account", ""))
        if key not in known:
            known[key] = ask(method, url, headers, post_data, **more)
        return known[key]

    monkeypatch.setattr(stage.fake, "request", request)


@pytest.mark.parametrize("history", sorted(HISTORIES))
def test_any_order_with_duplicates_gives_the_ledger_of_the_orderly_history(
    history: str, new_stage: Callable[[str], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 12: all orders of up to five webhooks, drawn ones of more, each with duplicates."""
    print(f"HISTORIES_SEED={SEED}")  # noqa: T201  (to play the same orders again)
    with taken_back():
        wanted = orderly(new_stage("orderly"), history)
    stage = new_stage("late")
    payloads = late(stage, history)
    remember_answers(stage, monkeypatch)

    for order in orders(payloads):
        with taken_back():
            tell(order[: len(payloads)])
            first = snapshot() if len(payloads) <= ALL_ORDERS_UP_TO else None
            tell(order[len(payloads) :])
            said = snapshot()
        assert said == wanted
        assert first in (None, wanted)
    tell(payloads)
    settlement.settle()
    assert violations() == []


def test_every_event_that_is_handled_is_in_a_history() -> None:
    told = {event for each in HISTORIES.values() for event in each.events}

    assert told == set(webhooks.HANDLERS)
