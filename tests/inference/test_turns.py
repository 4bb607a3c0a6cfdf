"""Organizations take turns in a lane."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.turns import Turns


def drained(turns: Turns[str]) -> list[str]:
    return [turns.take() for _ in range(len(turns))]


def test_a_crowd_of_one_does_not_hold_up_another() -> None:
    turns: Turns[str] = Turns(100)
    for number in range(50):
        assert turns.put(1, f"a{number}")
    turns.put(2, "b0")
    turns.put(2, "b1")

    assert drained(turns)[:5] == ["a0", "b0", "a1", "b1", "a2"]


def test_who_has_had_a_turn_waits_for_the_others() -> None:
    turns: Turns[str] = Turns(100)
    for organization, item in ((1, "a0"), (1, "a1"), (2, "b0"), (3, "c0")):
        turns.put(organization, item)

    assert drained(turns) == ["a0", "b0", "c0", "a1"]


def test_a_full_queue_still_has_room_for_others() -> None:
    turns: Turns[str] = Turns(4)
    for number in range(4):
        assert turns.put(1, f"a{number}")

    assert not turns.put(1, "a4")
    assert turns.put(2, "b0")
    assert turns.put(2, "b1")
    assert not turns.put(2, "b2"), "it has its half"
    assert drained(turns) == ["a0", "b0", "a1", "b1", "a2", "a3"]


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=60))
def test_nothing_is_lost_and_each_keeps_its_order(steps: list[tuple[int, bool]]) -> None:
    turns: Turns[tuple[int, int]] = Turns(10)
    let_in: list[tuple[int, int]] = []
    taken: list[tuple[int, int]] = []
    for number, (organization, is_put) in enumerate(steps):
        if is_put:
            if turns.put(organization, (organization, number)):
                let_in.append((organization, number))
        elif len(turns):
            taken.append(turns.first())
            assert turns.take() == taken[-1]
    while len(turns):
        taken.append(turns.take())

    assert sorted(taken) == sorted(let_in)
    for organization in range(1, 5):
        mine = [number for owner, number in taken if owner == organization]
        assert mine == sorted(mine)
