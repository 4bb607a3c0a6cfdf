"""Copies on the way to a worker: bounded, after the callers, and none of the callers' business."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import redis
from redis.connection import AbstractConnection

from accounts.errors import OverloadedError
from accounts.keys import Caller
from billing.ids import uuid7
from inference import lanes, registry
from inference.answers import Answer
from inference.lanes import Lane, Outcome, Request
from inference.link import predict_link
from inference.metrics import counting, families
from inference.metrics.families import Family
from inference.runtime.tensors import Input
from inference.traffic import copies, copying
from inference.traffic.copies import Copies, Copy
from inference.traffic.copying import Target
from tests.inference.test_lanes import SERVED

pytestmark = pytest.mark.once
POOL = "nobody"
TARGET = Target(900_001, 2, 100)
SHADOWED = replace(SERVED, shadow=TARGET)


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """No worker hears of these copies: they stay where they are put."""
    settings.PREDICT_POOL = POOL
    monkeypatch.setattr(copying, "GATHER_SECONDS", 0)
    copies.forget(TARGET.shadow_id)
    yield
    copies.forget(TARGET.shadow_id)
    predict_link().ask(("DEL", registry.shared_queue(POOL)))


def request(
    loop: asyncio.AbstractEventLoop, served: Any = SHADOWED, pixels: int = 4, name: str = "r"
) -> Request:
    return Request(
        caller=Caller(1, "a"),
        served=served,
        input=Input({"image": np.full((1, pixels), 7, np.float32)}, 1, is_batch=False),
        source="api",
        request_id=name,
        accepted_at=datetime.now(UTC),
        hold_id=uuid7(),
        input_bytes=0,
        loop=loop,
        future=loop.create_future(),
    )


def answer(one: Request) -> Answer:
    return Answer(
        prediction_id=one.hold_id,
        hold_id=one.hold_id,
        version_path=one.served.path,
        signature=one.served.signature,
        arrays={"probabilities": np.full((1, 10), 0.1, np.float32)},
        is_batch=False,
        rows=1,
        batch_rows=5,
        queue_us=0,
        run_us=321,
        cost_nanos=0,
        currency="usd",
        price_version_id=1,
    )


def answers(requests: Sequence[Request], _: object = None) -> list[Outcome]:
    return [answer(one) for one in requests]


def call(*served: Any, **options: Any) -> list[Answer]:
    """Send calls through a lane whose batches are answered at once; wait for what follows."""

    async def scenario() -> list[Answer]:
        loop = asyncio.get_running_loop()
        lane, found = Lane(), []
        for each in served:
            one = request(loop, each, **options)
            lane.submit(one)
            found.append(await asyncio.wait_for(one.future, 10))
        return found

    return asyncio.run(scenario())


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer all batches, and let the threads of the lanes end."""
    monkeypatch.setattr(lanes, "admit", lambda requests: None)
    monkeypatch.setattr(lanes, "finish", answers)
    yield
    settle()


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is counted as dropped, by reason."""
    found: Counter[str] = Counter()

    def add(family: Family, labels: tuple[str, ...], n: int) -> None:
        assert family is families.COPIES_DROPPED
        found[labels[0]] += n

    monkeypatch.setattr(counting, "add", add)
    return found


def settle() -> None:
    """Wait until the lanes have offered, and the copies have been sent."""
    lanes_are_free()
    sent = threading.Thread(target=copying._offered.join, daemon=True)
    sent.start()
    sent.join(20)
    assert not sent.is_alive()


def lanes_are_free() -> None:
    """Wait until none of the lanes' threads does anything for callers that have their answers."""
    barrier = threading.Barrier(17)
    for _ in range(16):
        lanes._threads.submit(barrier.wait, 10)
    barrier.wait(10)


def waiting() -> int:
    number: int = predict_link().ask(("ZCARD", copies.key(TARGET.shadow_id)))[0]
    return number


def test_an_answered_call_is_copied_with_what_its_caller_got(answered: None) -> None:
    call(SHADOWED)
    settle()

    assert predict_link().ask(("LLEN", registry.shared_queue(POOL))) == [1]
    copied = copies.take(TARGET.shadow_id)
    assert copied is not None
    assert copied.calls == [Copy(rows=1, run_us=321, batch_rows=5)]
    assert copied.inputs["image"].tolist() == [[7, 7, 7, 7]]
    assert copied.outputs["probabilities"].shape == (1, 10)
    assert copies.take(TARGET.shadow_id) is None


def test_callers_have_their_answers_first(monkeypatch: pytest.MonkeyPatch, answered: None) -> None:
    gate = threading.Event()
    chosen = copying._chosen

    def late(*arguments: Any) -> Any:
        assert gate.wait(20)
        return chosen(*arguments)

    monkeypatch.setattr(copying, "_chosen", late)

    assert len(call(SHADOWED)) == 1

    assert waiting() == 0
    gate.set()
    settle()
    assert waiting() == 1


def test_what_failed_and_what_is_not_sampled_is_not_copied() -> None:
    loop = asyncio.new_event_loop()
    few = Target(TARGET.shadow_id, 2, 30)
    requests = [request(loop, replace(SERVED, shadow=few), name=f"r{i}") for i in range(200)]
    outcomes: list[Outcome] = [answer(one) for one in requests]
    outcomes[:100] = [OverloadedError("full")] * 100
    loop.close()

    [(target, chosen)] = copying._chosen(requests, outcomes).items()

    assert target == few
    assert len(chosen) == sum(few.takes(f"r{i}") for i in range(100, 200)) > 0


def test_calls_are_copied_up_to_the_bytes_of_a_batch(dropped: Counter[str]) -> None:
    loop = asyncio.new_event_loop()
    # 400 kB, 4 MB, 400 kB, 400 kB of which two fit.
    requests = [request(loop, pixels=pixels) for pixels in (100_000, 1_000_000, 100_000, 100_000)]
    loop.close()

    chosen = copying._chosen(requests, answers(requests))[TARGET]

    assert [one.inputs["image"].shape[1] for one in chosen] == [100_000, 100_000]
    assert sum(one.size for one in chosen) <= copies.MAX_BYTES
    assert dropped == {"size": 1}


def test_the_newest_are_kept_for_a_minute() -> None:
    where = copies.key(TARGET.shadow_id)
    predict_link().ask(("ZADD", where, time.time() - copies.KEEP_SECONDS - 1, b"old"))
    for number in range(40):
        copied = Copies([Copy(1, number, 1)], {"a": np.zeros(1)}, {})
        made_room = copies.put(TARGET.shadow_id, [copies.pack(copied)])
        assert made_room == int(number == 0 or number >= copies.MAX_BATCHES)

    assert waiting() == copies.MAX_BATCHES
    assert 0 < predict_link().ask(("TTL", where))[0] <= copies.KEEP_SECONDS
    found = copies.take(TARGET.shadow_id)
    assert found is not None
    assert found.calls[0].run_us == 40 - copies.MAX_BATCHES


def test_the_same_calls_twice_are_two() -> None:
    copied = Copies([Copy(1, 1, 1)], {"a": np.zeros(1)}, {})

    copies.put(TARGET.shadow_id, [copies.pack(copied), copies.pack(copied)])

    assert waiting() == 2


def test_what_redis_does_not_take_in_time_is_dropped_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, answered: None, dropped: Counter[str]
) -> None:
    monkeypatch.setattr(copying, "_begin", lambda: None)
    full: queue.Queue[Any] = queue.Queue(copies.MAX_BATCHES)
    with monkeypatch.context() as patch:
        patch.setattr(copying, "_offered", full)

        assert len(call(*[SHADOWED] * (copies.MAX_BATCHES + 3))) == copies.MAX_BATCHES + 3

        lanes_are_free()
    assert full.qsize() == copies.MAX_BATCHES
    assert dropped == {"gateway": 3}


class Away:
    """A connection to a Redis that is not there."""

    def ask(self, *_: Any) -> Any:
        raise redis.ConnectionError("refused")


def test_without_redis_calls_are_answered_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
    answered: None,
    caplog: pytest.LogCaptureFixture,
    dropped: Counter[str],
) -> None:
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, copying.__name__):
        patch.setattr(copies, "predict_link", Away)
        for _ in range(3):
            assert [one.run_us for one in call(SHADOWED)] == [321]
            settle()
    assert [each.message for each in caplog.records] == ["copies are dropped: refused"]
    assert dropped == {"redis": 3}

    call(SHADOWED)
    settle()

    assert waiting() == 1


def test_a_fault_of_the_copying_does_not_reach_the_calls(
    monkeypatch: pytest.MonkeyPatch, answered: None, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: Any) -> Any:
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(copying, "_chosen", crash)
        call(SHADOWED, SHADOWED)
        settle()
    with monkeypatch.context() as patch:
        patch.setattr(copies, "pack", crash)
        call(SHADOWED)
        settle()

    assert [each.message for each in caplog.records].count("copies") == 3
    call(SHADOWED)
    settle()
    assert waiting() == 1


def test_a_model_without_a_shadow_costs_no_command_of_redis(
    monkeypatch: pytest.MonkeyPatch, answered: None
) -> None:
    sent: list[str] = []
    send = AbstractConnection.send_packed_command

    def count(self: Any, *args: Any, **options: Any) -> Any:
        thread = threading.current_thread().name
        # Other threads of this process talk to Redis by the clock.
        if thread == "copies" or thread.startswith(("lane", "MainThread")):
            sent.append(thread)
        return send(self, *args, **options)  # type: ignore[no-untyped-call]  # redis-py's

    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)

    call(SERVED, SERVED)
    settle()
    assert sent == []

    call(SHADOWED)
    settle()
    assert set(sent) == {"copies"}
