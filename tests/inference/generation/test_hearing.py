"""A worker dies between two lines: what was charged is answered, what is not answered is free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from pytest_django import Settings

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import Organization
from billing import holds
from billing.models import Hold, UsageEvent
from inference.batch_files import giving_way
from inference.connections import PREDICT_DB, redis_client
from inference.generation import asking, charging, hearing, listening, ringing, steps
from inference.generation.asking import Ask, Begun
from inference.generation.engine import Engine
from inference.generation.texts import Text
from inference.generation.wire import (
    ENDED,
    EVENT,
    Charged,
    End,
    Event,
    Order,
    Piece,
    gone_key,
    order_key,
    pack_event,
    pieces_key,
    unpack_order,
)
from inference.runtime.sampling import Choice
from inference.wire import heartbeat_key, taken_key
from tests.inference.watched import counted, counts
from tests.inference.writers import VOCABULARY, cost, make_writer

__all__ = ["counts"]
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("books", "counts"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(hearing, "_LOOK_MS", 50)
    # A pool without workers: those of other tests must not take these orders.
    settings.PREDICT_POOL = "nobody"


class Heard:
    """What a gateway heard of one text."""

    def __init__(self, begun: Begun) -> None:
        self.begun = begun
        self.text = ""
        self.end: End | None = None
        self.error: MercatoError | None = None

    @property
    def hold(self) -> Hold:
        return Hold.objects.get(pk=self.begun.hold_id)


async def _hear(heard: Heard) -> None:
    try:
        async for event in hearing.hear(heard.begun):
            if isinstance(event, Piece):
                heard.text += event.text
            else:
                heard.end = event
    except MercatoError as error:
        heard.error = error


def listen(organization: Organization, before: object, **fields: object) -> Heard:
    """Order a text, let something happen to it, and hear what comes."""
    path = make_writer().model.path

    async def both() -> Heard:
        ask = Ask(
            caller=Caller(organization.pk, organization.slug),
            ref=path,
            prompt="Hello",
            choice=Choice(seed=4),
            request_id="r1",
            max_tokens=10,
        )
        begun = await asking.begin(ask)
        heard = Heard(begun)
        await asyncio.to_thread(before, begun.hold_id)  # type: ignore[arg-type]  # any function
        await _hear(heard)
        return heard

    return asyncio.run(both())


def tell(hold_id: UUID, events: Sequence[Event]) -> None:
    """Say it as a worker does that is not heard of again."""
    redis_client(PREDICT_DB).set(taken_key(hold_id.hex), "dead:1")
    for event in events:
        redis_client(PREDICT_DB).xadd(pieces_key(hold_id.hex), {EVENT: pack_event(event)})


def order_of(hold_id: UUID) -> Order:
    data = redis_client(PREDICT_DB).get(order_key(hold_id.hex))
    assert isinstance(data, bytes)
    return unpack_order(data)


def charge(hold_id: UUID, written: int = 4) -> None:
    """Capture as the worker does, without telling."""
    text = Text.of(order_of(hold_id), None, VOCABULARY)  # type: ignore[arg-type]  # not read here
    text.output_tokens, text.outcome = written, "succeeded"
    holds.capture(charging.report(text, "dead:1", 1))


END = End("succeeded", "length", 4, cost("Hello", 4))


def counted_texts() -> dict[str, float]:
    """Return how texts ended, as the metrics say it."""
    found, name = counted(), "mercato_calls_total"
    return {
        labels["outcome"]: found.value(name, **labels)
        for labels in found.labels(name)
        if labels["kind"] == "text"
    }


def test_a_text_that_was_given_up_or_refused_is_counted(organization: Organization) -> None:
    path = make_writer().model.path

    async def leave() -> None:
        ask = Ask(
            caller=Caller(organization.pk, organization.slug),
            ref=path,
            prompt="Hello",
            choice=Choice(seed=4),
            request_id="r1",
        )
        begun = await asking.begin(ask)
        await asyncio.to_thread(tell, begun.hold_id, [Piece(0, "abcd")])
        heard = hearing.hear(begun)
        await anext(heard)
        await heard.aclose()
        with pytest.raises(MercatoError):
            await asking.begin(replace(ask, max_tokens=100_000))

    asyncio.run(leave())

    assert counted_texts() == {"canceled": 1, "context_length_exceeded": 1}
    holds.void(Hold.objects.get().pk, "canceled")


def test_dead_before_the_charge_is_free(organization: Organization) -> None:
    heard = listen(organization, lambda hold: tell(hold, [Piece(0, "abcd"), END]))

    assert heard.error is not None
    assert heard.error.code == "worker_lost"
    assert (heard.hold.state, heard.hold.failure) == ("voided", "worker_lost")
    gone = redis_client(PREDICT_DB).get(gone_key(heard.begun.hold_id.hex))
    assert gone == ENDED
    assert counted_texts() == {"worker_lost": 1}


def test_dead_after_the_charge_is_answered(organization: Organization) -> None:
    def dies(hold_id: UUID) -> None:
        tell(hold_id, [Piece(0, "abcd"), END])
        charge(hold_id)

    heard = listen(organization, dies)

    assert (heard.text, heard.end, heard.error) == ("abcd", END, None)
    assert heard.hold.captured_nanos == cost("Hello", 4)
    assert UsageEvent.objects.count() == 1
    assert counted_texts() == {"succeeded": 1}


def test_what_is_told_twice_is_passed_on_once(organization: Organization) -> None:
    def tells(hold_id: UUID) -> None:
        charge(hold_id)
        pieces = [Piece(0, "ab"), Piece(0, "ab"), Piece(0, "abc"), Piece(3, "d")]
        tell(hold_id, [*pieces, END, END, Charged(True)])

    assert listen(organization, tells).text == "abcd"


def test_a_hold_that_expired_meanwhile_is_no_answer(organization: Organization) -> None:
    def late(hold_id: UUID) -> None:
        Hold.objects.filter(pk=hold_id).update(state="expired", failure="worker_lost")
        tell(hold_id, [Piece(0, "abcd"), END, Charged(False)])

    heard = listen(organization, late)

    assert heard.error is not None
    assert heard.error.code == "worker_lost"
    assert heard.hold.state == "expired"


def test_an_order_that_nobody_takes_is_free(
    organization: Organization, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PREDICT_TIMEOUT_SECONDS = 1
    rung: list[str] = []
    monkeypatch.setattr(ringing, "ring", lambda order_id, *_: rung.append(order_id))
    monkeypatch.setattr(hearing, "_RING_SECONDS", 0.2)

    heard = listen(organization, lambda hold: None)

    assert heard.error is not None
    assert heard.error.code == "prediction_timeout"
    assert heard.hold.state == "voided"
    assert len(rung) > 1


@pytest.mark.parametrize(
    ("gone", "written", "state", "failure"),
    [
        (b"canceled", 3, "captured", "canceled"),
        (b"canceled", 0, "voided", "canceled"),
        (None, 3, "voided", "platform_error"),
    ],
    ids=["caller after some text", "caller before any", "gateway"],
)
def test_a_text_that_nobody_waits_for_ends_there(
    organization: Organization, gone: bytes | None, written: int, state: str, failure: str
) -> None:
    texts: list[Text] = []

    def worker(hold_id: UUID) -> None:
        redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)
        redis_client(PREDICT_DB).set(taken_key(hold_id.hex), "w1")
        engine = Engine(order_of(hold_id).version_id, "w1")
        texts.extend(engine._begin([order_of(hold_id)]))
        # One step reads the prompt and writes the first character.
        for _ in range(written):
            steps.take(engine._session(), texts)
        texts[0].leave(gone, is_heard=gone is not None)
        assert texts[0].has_ended
        charging.finish(texts, "w1")

    heard = listen(organization, worker)

    assert (heard.hold.state, heard.hold.failure) == (state, failure)
    if state == "captured":
        assert heard.hold.captured_nanos == cost("Hello", written)


def test_texts_written_together_are_the_texts_written_alone(organization: Organization) -> None:
    version = make_writer()

    def write(orders: Sequence[Order]) -> list[str]:
        engine = Engine(version.pk, "w1")
        texts = engine._begin(orders)
        while going := [text for text in texts if not text.has_ended]:
            steps.take(engine._session(), going)
        return [text.written for text in texts]

    orders = [order(version.pk, prompt, seed) for seed, prompt in enumerate(PROMPTS)]

    assert write(orders) == [write([one])[0] for one in orders]


def test_what_can_wait_gives_way_while_a_text_is_written(organization: Organization) -> None:
    gaps: list[bool] = []

    def worker(hold_id: UUID) -> None:
        redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)
        redis_client(PREDICT_DB).set(taken_key(hold_id.hex), "w1")
        engine = Engine(order_of(hold_id).version_id, "w1")
        take = engine._advance

        def advance(texts: list[Text]) -> list[Text]:
            gaps.append(giving_way.wait(0))
            return take(texts)

        engine._advance = advance  # type: ignore[assignment]
        engine.submit(order_of(hold_id))
        engine.join(30)
        gaps.append(giving_way.wait(0))

    assert listen(organization, worker).end is not None
    assert set(gaps[:-1]) == {False}
    assert gaps[-1]


def test_organizations_take_turns_for_what_a_worker_writes_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Order] = []
    monkeypatch.setattr("inference.generation.engine.MAX_ACTIVE", 3)

    def begin(_: Engine, orders: Sequence[Order]) -> list[Text]:
        begun.extend(orders)
        return []

    monkeypatch.setattr(Engine, "_begin", begin)
    engine = Engine(1, "w1")
    engine._thread = threading.current_thread()
    for seed, organization_id in enumerate((7, 7, 7, 7, 8, 9)):
        engine.submit(replace(order(1, "a", seed), organization_id=organization_id))

    assert engine._gather([])

    assert [one.choice.seed for one in begun] == [0, 4, 5]


def test_a_crowd_of_one_leaves_room_for_the_texts_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "_open", {f"a{number}": 1 for number in range(4)})

    assert listening.has_room(1, 5)
    assert not listening.has_room(1, 4)
    assert listening.has_room(2, 4)
    listening._open |= {"b0": 2, "b1": 2}
    assert not listening.has_room(2, 4)


PROMPTS = ("a", "Hello there", "x" * 300, "\n", "The price of a run")


def order(version_id: int, prompt: str, seed: int) -> Order:
    import numpy as np
    from django.utils import timezone

    numbers = [max(VOCABULARY.find(one), 0) for one in prompt]
    return Order(
        hold_id=UUID(int=seed),
        version_id=version_id,
        organization_id=1,
        price_version_id=1,
        share_version_id=1,
        reserved_nanos=0,
        accepted_at=timezone.now(),
        input_bytes=1,
        prompt=np.array(numbers, np.int32),
        max_tokens=20 + seed,
        choice=Choice(seed=seed),
        stops=(),
    )
