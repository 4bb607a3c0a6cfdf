"""A worker that listens is not rung for, and one that goes to sleep leaves nothing on its list."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from inference import bells
from inference.link import predict_link
from inference.wire import awake_key, pending_key

pytestmark = pytest.mark.once
WORKER = "predict@test:1"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bells, "LISTEN_SECONDS", 0.2)
    bells._closing.clear()
    predict_link().ask(("DEL", pending_key(WORKER), awake_key(WORKER)))
    yield
    bells._closing.clear()
    predict_link().ask(("DEL", pending_key(WORKER), awake_key(WORKER)))


class Listeners:
    """Threads that listen as a worker's do, and note what they ran."""

    def __init__(self, count: int) -> None:
        self.ran: list[tuple[str, int]] = []
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.threads = [threading.Thread(target=self._listen) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _listen(self) -> None:
        bells.listen(WORKER, self._run)

    def _run(self, batch_id: str, version_id: int) -> None:
        self.ran.append((batch_id, version_id))
        self.arrived.release()
        assert self.gate.wait(10)
        if batch_id == "broken":
            raise ValueError(batch_id)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def is_awake() -> bool:
    return predict_link().ask(("EXISTS", awake_key(WORKER))) == [1]


def test_a_sleeping_worker_must_be_rung_for() -> None:
    assert not bells.put(WORKER, "b1", 7)
    assert bells.take(WORKER) == ("b1", 7)
    assert bells.take(WORKER) is None


def test_it_runs_what_lay_there_and_what_comes_then_sleeps() -> None:
    bells.put(WORKER, "b1", 7)
    listeners = Listeners(bells.LISTENERS)
    assert listeners.arrived.acquire(timeout=10)
    bells.put(WORKER, "b2", 8)
    assert listeners.arrived.acquire(timeout=10)
    listeners.join()

    assert listeners.ran == [("b1", 7), ("b2", 8)]
    assert not is_awake()


def test_nobody_rings_while_all_threads_listen() -> None:
    bells.put(WORKER, "b1", 1)
    bells.put(WORKER, "b2", 1)
    listeners = Listeners(bells.LISTENERS)
    listeners.gate.clear()
    for _ in range(2):
        assert listeners.arrived.acquire(timeout=10)
    # Both have been listening since before they took these two.
    assert bells.put(WORKER, "b3", 1) is is_awake()
    listeners.gate.set()
    listeners.join()

    assert sorted(listeners.ran) == [("b1", 1), ("b2", 1), ("b3", 1)]


def test_one_thread_alone_does_not_say_that_the_worker_is_awake() -> None:
    listeners = Listeners(1)
    bells.put(WORKER, "b1", 1)
    assert listeners.arrived.acquire(timeout=10)

    assert not is_awake(), "a batch could wait behind a long one while a thread is free"
    listeners.join()


def test_a_batch_that_raises_does_not_end_the_listening() -> None:
    bells.put(WORKER, "broken", 1)
    bells.put(WORKER, "b2", 1)
    listeners = Listeners(1)
    listeners.join()

    assert listeners.ran == [("broken", 1), ("b2", 1)]


def test_more_threads_than_listen_go_back_to_the_pool() -> None:
    listeners = Listeners(bells.LISTENERS + 1)
    bells.put(WORKER, "b1", 1)
    listeners.join()

    assert listeners.ran == [("b1", 1)]
    assert bells.idle() == 0


def test_what_is_put_while_it_goes_to_sleep_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway saw it awake, and it has stopped listening: it looks once more."""
    end = bells._end

    def put_in_between(worker: str) -> None:
        monkeypatch.setattr(bells, "_end", end)
        bells.put(WORKER, "late", 1)
        end(worker)

    monkeypatch.setattr(bells, "_end", put_in_between)
    listeners = Listeners(1)
    listeners.join()

    assert listeners.ran == [("late", 1)]


def test_a_worker_that_stops_listens_no_more() -> None:
    bells.close()
    bells.put(WORKER, "b1", 1)
    listeners = Listeners(1)
    listeners.join()

    assert listeners.ran == [("b1", 1)], "what lay there is run all the same"
    assert not is_awake()


def test_one_thread_is_left_for_what_the_broker_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_most", bells.LISTENERS)
    bells.share(2)
    bells.put(WORKER, "b1", 1)
    listener = Listeners(1)
    assert listener.arrived.acquire(timeout=10)

    bells.listen(WORKER, lambda *_: pytest.fail("another thread listens"))
    assert bells.put(WORKER, "b2", 1)
    listener.join()
    assert listener.ran == [("b1", 1), ("b2", 1)]


def test_the_only_thread_runs_what_lies_there_and_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bells, "_most", bells.LISTENERS)
    monkeypatch.setattr(bells, "LISTEN_SECONDS", 60)
    bells.share(1)
    for name in ("b1", "b2"):
        bells.put(WORKER, name, 1)

    Listeners(1).join()

    assert bells.take(WORKER) is None
    assert not is_awake()
