"""A transport for the real SDK: what Stripe would answer, without a network.

The SDK's own encoding, objects, errors and retries are in use; only the last step is not.
"""

from __future__ import annotations

import enum
import fnmatch
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import stripe

from billing.stripe.fake.clock import tick
from billing.stripe.fake.events import Post
from billing.stripe.fake.params import check, decode
from billing.stripe.fake.people import People
from billing.stripe.fake.routes import ACCOUNT, Refusal, Route, expand, resolve
from billing.stripe.fake.store import Body, Store, World

# Stripe promises to keep answers for at least a day: the fake forgets them then, as it may.
_KEPT_SECONDS = 86400
_CALLS_KEPT = 1000
_METER_EVENTS = "/v1/billing/meter_events"

Answer = tuple[str, int, Mapping[str, str]]


class Fault(enum.StrEnum):
    """What may go wrong on the way."""

    # Nothing arrived at Stripe.
    BEFORE_SEND = "before_send"
    # It was done, and the answer was lost.
    AFTER_SEND = "after_send"
    # Another request with the same key still runs.
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    # A failure that Stripe keeps under the key: nothing was done.
    CACHED_500 = "cached_500"
    # A failure that Stripe keeps under the key, although it was done.
    DONE_500 = "done_500"
    # Something between us and Stripe answers with a page.
    BAD_GATEWAY = "bad_gateway"


@dataclass(frozen=True, slots=True)
class Call:
    """A request that arrived: for tests to count."""

    route: str
    key: str
    params: Mapping[str, Any]
    status: int


@dataclass(frozen=True, slots=True)
class _Request:
    name: str
    route: Route
    ids: tuple[str, ...]
    given: Body
    key: str

    @property
    def fingerprint(self) -> str:
        text = json.dumps([self.name, self.given], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def lock(self) -> str:
        """Return what only one request may hold at a time: its key, or a customer's meter."""
        if self.name == f"POST {_METER_EVENTS}":
            return f"{self.given['event_name']} {self.given['payload'].get('stripe_customer_id')}"
        return self.key


class FakeStripe(stripe.HTTPClient):
    """Stripe's API, stateful, with idempotency, a clock, and faults on order.

    Attributes:
        post: Carries webhooks to the site.
        people: What payers, banks and publishers do.
        on_execute: Called while a request runs: a test may send another one then.
    """

    name = "fake"

    def __init__(self, path: Path, site: str = "") -> None:
        super().__init__()
        self._store = Store(path, site)
        self._running: set[str] = set()
        self._guard = threading.Lock()
        self.post = Post(self._store)
        self.people = People(self._store)
        self.on_execute: Callable[[str], None] | None = None

    def close(self) -> None:
        """Let the file go; the next request takes it up again."""
        self._store.close()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> Answer:
        """Answer a request of the SDK.

        Raises:
            stripe.APIConnectionError: A fault on the way.
            ParamsError: A parameter is not the SDK's.
            UnknownRouteError: The fake does not know the path.
        """
        parts = urlsplit(url)
        route, ids = resolve(method.upper(), parts.path)
        given = check(decode(post_data if method == "post" else parts.query), route.params)
        if account := (headers or {}).get("Stripe-Account"):
            given = {**given, ACCOUNT: account}
        key = (headers or {}).get("Idempotency-Key", "")
        request = _Request(f"{method.upper()} {parts.path}", route, ids, given, key)
        fault = self._next_fault(request.name)
        if fault == Fault.BEFORE_SEND:
            raise _reset()
        answer = self._refused_on_the_way(fault) or self._run(request, fault)
        if fault == Fault.AFTER_SEND:
            raise _reset()
        return answer

    def fail(self, fault: Fault, route: str = "*", times: int = 1) -> None:
        """Let the next requests of a route fail, such as `POST /v1/transfers`."""
        with self._store.transaction() as world:
            world.db.execute(
                "INSERT INTO faults (route, kind, remaining) VALUES (?, ?, ?)",
                (route, fault.value, times),
            )

    def recover(self) -> None:
        """Forget the faults that no request has met yet."""
        with self._store.transaction() as world:
            world.db.execute("DELETE FROM faults")

    def calls(self, route: str = "*") -> list[Call]:
        """Return the requests that were carried out or replayed, oldest first."""
        with self._store.transaction() as world:
            rows = world.db.execute("SELECT route, key, params, status FROM calls ORDER BY seq")
            found = [Call(name, key, json.loads(text), code) for name, key, text, code in rows]
        return [each for each in found if fnmatch.fnmatchcase(each.route, route)]

    def _next_fault(self, name: str) -> Fault | None:
        with self._store.transaction() as world:
            rows = world.db.execute("SELECT seq, route, kind, remaining FROM faults ORDER BY seq")
            for seq, route, kind, remaining in rows.fetchall():
                if fnmatch.fnmatchcase(name, route):
                    if remaining > 1:
                        world.db.execute(
                            "UPDATE faults SET remaining = remaining - 1 WHERE seq = ?", (seq,)
                        )
                    else:
                        world.db.execute("DELETE FROM faults WHERE seq = ?", (seq,))
                    return Fault(kind)
        return None

    def _refused_on_the_way(self, fault: Fault | None) -> Answer | None:
        if fault == Fault.CONFLICT:
            return _in_use()
        if fault == Fault.RATE_LIMITED:
            return _too_many()
        if fault == Fault.BAD_GATEWAY:
            return "<html>Bad gateway</html>", 502, {}
        return None

    def _run(self, request: _Request, fault: Fault | None) -> Answer:
        with self._alone(request.lock) as is_alone:
            if not is_alone:
                is_meter = request.name == f"POST {_METER_EVENTS}"
                return _too_many() if is_meter else _in_use()
            if self.on_execute:
                self.on_execute(request.name)
            with self._store.transaction() as world:
                tick(world)
                answer = _kept(world, request) or _execute(world, request, fault)
                _log(world, request, answer[1])
        return answer

    @contextmanager
    def _alone(self, lock: str) -> Iterator[bool]:
        with self._guard:
            is_alone = not lock or lock not in self._running
            if is_alone:
                self._running.add(lock)
        try:
            yield is_alone
        finally:
            if is_alone:
                with self._guard:
                    self._running.discard(lock)


def _kept(world: World, request: _Request) -> Answer | None:
    row = world.db.execute(
        "SELECT fingerprint, status, body FROM answers WHERE key = ? AND created > ?",
        (request.key, world.now - _KEPT_SECONDS),
    ).fetchone()
    if not request.key or row is None:
        return None
    if row[0] != request.fingerprint:
        message = (
            "Keys for idempotent requests can only be used with the same parameters they were "
            "first used with."
        )
        body = {"error": {"type": "idempotency_error", "message": message}}
        return json.dumps(body), 400, {"Request-Id": world.new_id("req")}
    return row[2], row[1], {"Request-Id": world.new_id("req"), "Idempotent-Replayed": "true"}


def _execute(world: World, request: _Request, fault: Fault | None) -> Answer:
    status, body = 500, _failure("An unknown error occurred.", "api_error")
    if fault != Fault.CACHED_500:
        try:
            given = dict(request.given)
            paths = given.pop("expand", [])
            done = expand(world, request.route.handler(world, given, *request.ids), paths)
        except Refusal as refusal:
            done, code = refusal.body, refusal.status
        else:
            code = 200
        if fault != Fault.DONE_500:
            status, body = code, done
    text = json.dumps(body)
    if request.key:
        world.db.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
            (request.key, request.fingerprint, world.now, status, text),
        )
    return text, status, {"Request-Id": world.new_id("req")}


def _log(world: World, request: _Request, status: int) -> None:
    made = world.db.execute(
        "INSERT INTO calls (route, key, params, status) VALUES (?, ?, ?, ?)",
        (request.name, request.key, json.dumps(request.given, default=str), status),
    )
    world.db.execute("DELETE FROM calls WHERE seq <= ?", ((made.lastrowid or 0) - _CALLS_KEPT,))


def _reset() -> stripe.APIConnectionError:
    message = "The connection was reset."
    return stripe.APIConnectionError(message, should_retry=True)  # type: ignore[no-untyped-call]


def _failure(message: str, kind: str, code: str = "") -> Body:
    return {"error": {"type": kind, "message": message, **({"code": code} if code else {})}}


def _in_use() -> Answer:
    message = "There is currently another in-progress request using this idempotency key."
    body = _failure(message, "idempotency_error", "idempotency_key_in_use")
    return json.dumps(body), 409, {}


def _too_many() -> Answer:
    body = _failure("Too many requests hit the API too quickly.", "api_error", "rate_limit")
    return json.dumps(body), 429, {}
