"""Lanes: requests gather while a batch is away, and leave together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from django.db import InterfaceError, OperationalError

from accounts.errors import MercatoError, OverloadedError
from accounts.keys import Caller
from billing import holds, writing
from billing.ids import uuid7
from billing.rating import PricePlan
from billing.reports import Terms
from billing.reservations import Reservation
from inference import lanes, routing
from inference.lanes import Lane, Outcome, Request
from inference.runtime.signature import Signature
from inference.runtime.tensors import Input
from inference.versions import Served
from tests import factories

pytestmark = pytest.mark.once
SERVED = Served(
    version_id=1,
    path="a/b:1",
    owner_id=1,
    is_public=True,
    signature=Signature.from_json(factories.DIGIT_SIGNATURE),
    schedule=(
        (
            datetime(2026, 1, 1, tzinfo=UTC),
            Terms(PricePlan(1, "usd", 0, {"row": ((0, 1, 1),)}), 0, {}),
        ),
    ),
    share_version_id=1,
)


def request(loop: asyncio.AbstractEventLoop, rows: int = 1, *, served: Served = SERVED) -> Request:
    return Request(
        caller=Caller(1, "a"),
        served=served,
        input=Input({"image": np.zeros((rows, 28, 28), np.float32)}, rows, is_batch=False),
        source="api",
        request_id="",
        accepted_at=datetime.now(UTC),
        hold_id=uuid7(),
        input_bytes=0,
        loop=loop,
        future=loop.create_future(),
    )


class Runs:
    """Stands where batches are run: notes their sizes, and waits while the gate is shut."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.started = threading.Event()
        self.gate = threading.Event()

    def __call__(self, requests: Sequence[Request], _: object) -> list[Outcome]:
        self.sizes.append(len(requests))
        self.started.set()
        self.gate.wait(10)
        return [OverloadedError(str(len(requests)))] * len(requests)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(lanes, "admit", lambda requests: None)
    monkeypatch.setattr(lanes, "finish", made)
    return made


def in_loop(scenario: Callable[[asyncio.AbstractEventLoop], Any]) -> Any:
    async def main() -> Any:
        return await scenario(asyncio.get_running_loop())

    return asyncio.run(main())


def test_an_idle_lane_sends_at_once_and_what_gathers_leaves_together(runs: Runs) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        lane = Lane()
        waiting = [request(loop) for _ in range(10)]
        lane.submit(waiting[0])
        runs.started.wait(10)
        for one in waiting[1:]:
            lane.submit(one)
        runs.gate.set()
        await asyncio.wait([one.future for one in waiting])

    in_loop(scenario)

    assert runs.sizes == [1, 9]


def test_a_batch_has_at_most_the_rows_that_are_allowed(runs: Runs, settings: Any) -> None:
    settings.LANE_MAX_ROWS = 8

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        lane = Lane()
        waiting = [request(loop, rows) for rows in (1, 5, 3, 1, 20)]
        lane.submit(waiting[0])
        runs.started.wait(10)
        for one in waiting[1:]:
            lane.submit(one)
        runs.gate.set()
        await asyncio.wait([one.future for one in waiting])

    in_loop(scenario)

    assert runs.sizes == [1, 2, 1, 1]  # 1 | 5 + 3 | 1 | 20: one that is too large goes alone


def test_a_full_lane_refuses(runs: Runs, settings: Any) -> None:
    settings.LANE_MAX_WAITING = 2

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        lane = Lane()
        waiting = [request(loop) for _ in range(3)]
        lane.submit(waiting[0])
        runs.started.wait(10)
        lane.submit(waiting[1])
        lane.submit(waiting[2])
        with pytest.raises(OverloadedError):
            lane.submit(request(loop))
        runs.gate.set()
        await asyncio.wait([one.future for one in waiting])

    in_loop(scenario)


def test_a_caller_that_has_gone_does_not_stop_the_others(runs: Runs) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> str:
        lane = Lane()
        gone, stays = request(loop), request(loop)
        lane.submit(gone)
        lane.submit(stays)
        gone.future.cancel()
        runs.gate.set()
        try:
            await stays.future
        except MercatoError as error:
            return error.code
        return "answered"

    assert in_loop(scenario) == "overloaded"


def test_a_crash_of_a_batch_is_told_to_its_callers_and_the_lane_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def crash(requests: Sequence[Request]) -> list[Outcome]:
        calls.append(len(requests))
        raise RuntimeError("boom")

    monkeypatch.setattr(lanes, "admit", crash)

    async def scenario(loop: asyncio.AbstractEventLoop) -> list[str]:
        lane = Lane()
        codes = []
        for _ in range(2):
            one = request(loop)
            lane.submit(one)
            try:
                await one.future
            except MercatoError as error:
                codes.append(error.code)
        return codes

    assert in_loop(scenario) == ["internal_error", "internal_error"]
    assert calls == [1, 1]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_without_a_database_nothing_runs_and_the_caller_may_try_again(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Any, **__: Any) -> Any:
        raise error("connection already closed")

    monkeypatch.setattr(lanes, "_prepare", lambda one: object.__new__(Reservation))
    monkeypatch.setattr(holds, "reserve_many", away)

    async def scenario(loop: asyncio.AbstractEventLoop) -> Outcome:
        waiting = [request(loop)]
        admittance = await loop.run_in_executor(None, lanes.admit, waiting)
        return lanes.finish(waiting, admittance)[0]

    outcome = in_loop(scenario)

    assert isinstance(outcome, OverloadedError)
    assert (outcome.status_code, outcome.retry_after) == (503, 1)


def test_however_many_models_are_loaded_others_are_answered_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = threading.Event()
    threads: list[str] = []

    def finish(requests: Sequence[Request], _: object) -> list[Outcome]:
        if requests[0].served is not SERVED:
            threads.append(threading.current_thread().name)
            assert loaded.wait(20)
        return [OverloadedError("")] * len(requests)

    monkeypatch.setattr(lanes, "admit", lambda requests: None)
    monkeypatch.setattr(lanes, "finish", finish)
    monkeypatch.setattr(routing, "is_warm", lambda version: version == 1 or loaded.is_set())

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        cold = [request(loop, served=replace(SERVED, version_id=2 + place)) for place in range(40)]
        for one in cold:
            Lane().submit(one)
        warm = request(loop)
        Lane().submit(warm)
        await asyncio.wait_for(asyncio.wait([warm.future]), 10)
        assert not any(one.future.done() for one in cold)
        loaded.set()
        await asyncio.wait([one.future for one in cold])

    in_loop(scenario)

    assert len(threads) == 40
    assert all(name.startswith("cold-lane") for name in threads[:8])


def test_once_its_model_is_loaded_a_lane_is_one_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gathered, loaded = threading.Event(), threading.Event()
    threads: list[str] = []

    def finish(requests: Sequence[Request], _: object) -> list[Outcome]:
        threads.append(threading.current_thread().name.partition("_")[0])
        assert gathered.wait(10)
        loaded.set()
        return [OverloadedError("")] * len(requests)

    monkeypatch.setattr(lanes, "admit", lambda requests: None)
    monkeypatch.setattr(lanes, "finish", finish)
    monkeypatch.setattr(routing, "is_warm", lambda _: loaded.is_set())
    monkeypatch.setattr(routing, "width", lambda _: 1)

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        lane = Lane()
        first, second = request(loop), request(loop)
        lane.submit(first)
        while not threads:
            await asyncio.sleep(0)
        lane.submit(second)
        gathered.set()
        await asyncio.wait([first.future, second.future])

    in_loop(scenario)

    assert threads == ["cold-lane", "lane"]


def test_what_arrives_while_another_writes_leaves_with_the_batch(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, where one writes at a time; the turn of another process stands here."""
    waits, ours = threading.Event(), threading.Event()

    @contextmanager
    def turn() -> Iterator[None]:
        waits.set()
        assert ours.wait(10)
        yield

    monkeypatch.setattr(writing, "turn", turn)

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        lane = Lane()
        waiting = [request(loop) for _ in range(10)]
        lane.submit(waiting[0])
        assert waits.wait(10)
        for one in waiting[1:]:
            lane.submit(one)
        ours.set()
        runs.gate.set()
        await asyncio.wait([one.future for one in waiting])

    in_loop(scenario)

    assert runs.sizes == [10]


def test_when_the_turn_does_not_come_the_callers_are_told_and_the_lane_goes_on(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked() -> AbstractContextManager[None]:
        raise OperationalError("database is locked")

    monkeypatch.setattr(writing, "turn", locked)

    async def scenario(loop: asyncio.AbstractEventLoop) -> str:
        lane = Lane()
        refused, served = request(loop), request(loop)
        lane.submit(refused)
        with pytest.raises(OverloadedError):
            await refused.future
        monkeypatch.setattr(writing, "turn", nullcontext)
        runs.gate.set()
        lane.submit(served)
        with pytest.raises(OverloadedError):
            await served.future
        return "both"

    assert in_loop(scenario) == "both"
