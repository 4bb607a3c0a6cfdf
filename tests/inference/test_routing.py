"""Which worker a batch goes to, and how many batches may be away at once."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.errors import OverloadedError
from inference import registry, routing
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
