"""Which worker a batch goes to, and how many batches may be away at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from accounts.errors import OverloadedError
from inference import registry, routing
from inference.errors import NoWorkerError
from inference.labels import satisfy
from inference.registry import Member

pytestmark = pytest.mark.once


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    """Set the picture that this process has of the workers."""
    return lambda *members: monkeypatch.setattr(
        routing, "fleet", lambda: routing._picture(settings.PREDICT_POOL, members)
    )


def members(*numbers: int, **fields: Any) -> list[Member]:
    return [Member(f"w{number}", **fields) for number in numbers]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_labels", {})


def test_what_is_loaded_nowhere_goes_to_one_that_all_agree_on(show: Any) -> None:
    chosen = {}
    for version_id in range(50):
        show(*members(1, 2, 3))
        chosen[version_id] = routing.choose(version_id).worker
    assert set(chosen.values()) == {"w1", "w2", "w3"}
    for version_id, worker in chosen.items():
        show(*members(3, 1))
        if worker != "w2":
            assert routing.choose(version_id).worker == worker


def test_a_worker_that_has_it_is_chosen_and_the_one_with_least_to_do(show: Any) -> None:
    has = frozenset({7})
    show(Member("a", loaded=has, running=2), Member("b", loaded=has), Member("c"))
    assert routing.choose(7).worker == "b"
    assert routing.choose(7, without=["b"]).worker == "a"
    with routing.away(routing.Route("b")):
        assert routing.choose(7).worker == "a"
    show(Member("a", loaded=has, duty=registry.DRAINED), Member("b", duty=registry.CORDONED))
    assert routing.choose(7).worker == ""
    show(Member("a", loaded=has, duty=registry.CORDONED), Member("b"))
    assert routing.choose(7).worker == "a"


def test_labels_decide_who_may_load_and_a_full_queue_who_may_not(show: Any, settings: Any) -> None:
    routing.know(7, {"gpu": "1"})
    show(Member("a", labels={"gpu": "0"}), Member("b", labels={"gpu": "1"}))
    assert routing.choose(7).worker == "b"
    routing.know(7, {})
    settings.WORKER_MAX_WAITING = 5
    show(Member("a", loaded=frozenset({7}), waiting=5), Member("b"))
    assert routing.choose(7).worker == "b"
    show(Member("a", loaded=frozenset({7}), waiting=5), Member("b", waiting=9))
    with pytest.raises(OverloadedError):
        routing.choose(7)


@pytest.mark.parametrize(
    ("has", "needed", "is_enough"),
    [
        ("16000", "8000", True),
        ("8000", "8000", True),
        ("900", "8000", False),
        ("1.5", "1.25", True),
        ("10", "9.5", True),
        ("a", "a", True),
        ("b", "a", False),
        ("8000", "8000mb", False),
        ("b", "1", False),
    ],
)
def test_a_number_asks_for_as_much_or_more_and_anything_else_for_just_that(
    has: str, needed: str, is_enough: bool
) -> None:
    assert satisfy({"label": has, "cpu": "2"}, {"label": needed}) is is_enough


def test_what_a_worker_does_not_say_it_does_not_have() -> None:
    assert satisfy({}, {})
    assert not satisfy({}, {"gpu": "0"})


def test_what_needs_labels_goes_to_nobody_who_lacks_them(show: Any) -> None:
    """Neither because it is loaded there, nor to the queue that all workers share."""
    routing.know(7, {"memory_mb": "8000"})
    has = frozenset({7})
    small, large = {"memory_mb": "4000"}, {"memory_mb": "16000"}
    show(Member("a", labels=small, loaded=has), Member("b", labels=large))
    assert routing.choose(7).worker == "b"
    assert not routing.is_warm(7)
    show(Member("a", labels=small, loaded=has), Member("b", labels=large, loaded=has))
    assert routing.choose(7).worker == "b"
    with pytest.raises(NoWorkerError, match="memory_mb=8000"):
        routing.choose(7, without=["b"])
    routing.require_worker(7, {"memory_mb": "8000"})
    show(Member("a", labels=small, loaded=has))
    for refuse in (routing.choose, partial(routing.require_worker, needed={"memory_mb": "8000"})):
        with pytest.raises(NoWorkerError) as refused:
            refuse(7)
        assert (refused.value.status_code, refused.value.retry_after) == (503, 5)


def test_a_process_that_has_just_begun_looks_before_it_refuses(
    show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing.know(7, {"gpu": "1"})
    show()
    seen = routing._picture("cpu", [Member("b", labels={"gpu": "2"})])
    monkeypatch.setattr(routing, "refresh", lambda: seen)

    assert routing.choose(7).worker == "b"


def test_a_worker_hands_on_what_it_may_not_run_to_one_that_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = [Member("a", labels={"gpu": "0"}), Member("b", labels={"gpu": "1"})]
    monkeypatch.setattr(routing, "refresh", lambda: routing._picture("cpu", seen))

    assert routing.elsewhere(7, {"gpu": "1"}, "a").worker == "b"
    # Without labels anybody may.
    assert routing.elsewhere(7, {}, "a").worker == ""
    with pytest.raises(NoWorkerError):
        routing.elsewhere(7, {"gpu": "2"}, "a")


def test_several_batches_are_away_at_once_only_where_runs_are_long(
    show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_run_us", {})
    show(*members(1, 2, 3, loaded=frozenset({7})))
    assert routing.width(7) == 1
    routing.note_run(7, 80_000)
    assert routing.width(7) == 3
    for _ in range(30):
        routing.note_run(7, 100)
    assert routing.width(7) == 1
