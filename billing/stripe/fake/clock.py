"""The fake's time: what becomes due happens in order, as if somebody had watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from billing.stripe.fake import checkout, invoices, subscriptions
from billing.stripe.fake.store import Body, World


def _end_session(world: World, session: Body) -> None:
    if session["status"] == "open":
        checkout.expire(world, session)
    else:
        world.save(session)


_TURNS: Mapping[str, Callable[[World, Body], None]] = {
    "checkout.session": _end_session,
    "subscription": subscriptions.turn,
    "invoice": invoices.advance,
}


def tick(world: World) -> None:
    """Let everything happen that is due by now, each at its own moment."""
    now = world.now
    while found := world.next_due(now):
        world.now, body = found
        _TURNS[body["object"]](world, body)
    world.now = now


def advance(world: World, seconds: int) -> None:
    """Move the clock forward, and let happen what becomes due."""
    if frozen := world.fact("frozen", 0):
        world.set_fact("frozen", frozen + seconds)
    else:
        world.set_fact("offset", world.fact("offset", 0) + seconds)
    world.now += seconds
    tick(world)


def freeze(world: World, at: int) -> None:
    """Stop the clock at a moment, in seconds since 1970; only `advance` moves it from then on."""
    world.set_fact("frozen", at)
    world.now = at
    tick(world)
