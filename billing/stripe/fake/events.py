"""What happened at the fake: events, and the post that carries them to the site."""

from __future__ import annotations

import fnmatch
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from billing.stripe.client import API_VERSION
from billing.stripe.fake.routes import need, page, route
from billing.stripe.fake.store import Body, Store, World


def emit(world: World, kind: str, body: Body, *, account: str = "") -> None:
    """Record that something happened, with the object as it is now, and post it."""
    event: Body = {
        "id": world.new_id("evt"),
        "object": "event",
        "type": kind,
        "api_version": API_VERSION,
        "data": {"object": body},
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
    }
    if account:
        event["account"] = account
    world.add(event)
    world.db.execute(
        "INSERT INTO deliveries (event, type, place, due) VALUES (?, ?, "
        "(SELECT COALESCE(MAX(place), 0) + 1 FROM deliveries), ?)",
        (event["id"], kind, world.now),
    )


@route("GET", "/v1/events", "EventListParams")
def list_events(world: World, given: Body) -> Body:
    """List events; the last 30 days are remembered."""
    types = given.get("types") or ([given["type"]] if "type" in given else ["*"])
    found = world.newest("event", keep=lambda each: each["created"] > world.now - 30 * 86400)
    kept = [each for each in found if any(fnmatch.fnmatchcase(each["type"], t) for t in types)]
    return page(kept, given, "/v1/events")


@route("GET", "/v1/events/{event}", "EventRetrieveParams")
def retrieve_event(world: World, given: Body, event: str) -> Body:
    """Return an event."""
    return need(world, event, "event")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook on its way: the bytes to sign and send."""

    seq: int
    type: str
    payload: bytes


class Post:
    """Carries events to the site: as unreliably as a test wants."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def due(self, limit: int = 100) -> list[Delivery]:
        """Return what should be delivered now, in order; it stays until acknowledged."""
        with self._store.transaction() as world:
            rows = world.db.execute(
                "SELECT d.seq, d.type, o.body FROM deliveries d JOIN objects o ON o.id = d.event "
                "WHERE d.due <= ? ORDER BY d.place, d.seq LIMIT ?",
                (world.now, limit),
            ).fetchall()
        return [Delivery(seq, kind, body.encode()) for seq, kind, body in rows]

    def acknowledge(self, delivery: Delivery) -> None:
        """Forget a delivery that the site has answered."""
        with self._store.transaction() as world:
            world.db.execute("DELETE FROM deliveries WHERE seq = ?", (delivery.seq,))

    def is_empty(self) -> bool:
        """Whether nothing is on its way, also not later."""
        with self._store.transaction() as world:
            return world.db.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone() is None

    def duplicate(self, times: int = 2, *, type: str = "*") -> None:
        """Deliver what is on its way `times` times."""
        for event, kind, place, due in self._rows(type):
            with self._store.transaction() as world:
                for _ in range(times - 1):
                    world.db.execute(
                        "INSERT INTO deliveries (event, type, place, due) VALUES (?, ?, ?, ?)",
                        (event, kind, place, due),
                    )

    def shuffle(self, seed: int) -> None:
        """Deliver what is on its way in another order."""
        dice = random.Random(seed)  # noqa: S311  (no secret)
        self.arrange(lambda names: dice.sample(names, len(names)))

    def arrange(self, order: Callable[[list[int]], list[int]]) -> None:
        """Deliver what is on its way in the order that a function makes of it."""
        with self._store.transaction() as world:
            rows = world.db.execute("SELECT seq FROM deliveries ORDER BY place, seq").fetchall()
            for place, seq in enumerate(order([row[0] for row in rows])):
                world.db.execute("UPDATE deliveries SET place = ? WHERE seq = ?", (place, seq))

    def drop(self, *, type: str = "*") -> int:
        """Lose what is on its way, and return how much it was."""
        with self._store.transaction() as world:
            return world.db.execute("DELETE FROM deliveries WHERE type GLOB ?", (type,)).rowcount

    def keep(self, *, type: str) -> None:
        """Lose all but these kinds."""
        with self._store.transaction() as world:
            world.db.execute("DELETE FROM deliveries WHERE type NOT GLOB ?", (type,))

    def delay(self, seconds: int, *, type: str = "*") -> None:
        """Deliver what is on its way later, by the fake's clock."""
        with self._store.transaction() as world:
            world.db.execute(
                "UPDATE deliveries SET due = due + ? WHERE type GLOB ?", (seconds, type)
            )

    def again(self, event: str) -> None:
        """Deliver an event once more, however old it is."""
        with self._store.transaction() as world:
            body = need(world, event, "event")
            world.db.execute(
                "INSERT INTO deliveries (event, type, place, due) VALUES (?, ?, 0, ?)",
                (event, body["type"], world.now),
            )

    def forge(self, event: str, change: Callable[[Body], None]) -> bytes:
        """Return an event's bytes after a function has changed them, as an attacker might."""
        with self._store.transaction() as world:
            body = need(world, event, "event")
        change(body)
        return json.dumps(body).encode()

    def _rows(self, type: str) -> list[tuple[str, str, int, int]]:
        with self._store.transaction() as world:
            return world.db.execute(
                "SELECT event, type, place, due FROM deliveries WHERE type GLOB ?", (type,)
            ).fetchall()
