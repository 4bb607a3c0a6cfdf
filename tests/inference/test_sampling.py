"""Choosing characters, and cutting texts at their stops."""

from __future__ import annotations

import numpy as np
import pytest

from inference.runtime.sampling import Choice, Stops, sample

SCORES = np.array([99, 0, 1, 5, 2], np.float32)


def test_without_temperature_the_likeliest_known_character_is_taken() -> None:
    choice = Choice(temperature=0)

    assert sample(SCORES, choice, choice.generator()) == 3


def test_the_same_seed_chooses_the_same() -> None:
    def text(seed: int) -> list[int]:
        choice = Choice(temperature=2, seed=seed)
        generator = choice.generator()
        return [sample(SCORES, choice, generator) for _ in range(50)]

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert 0 not in text(1)


def test_a_small_nucleus_leaves_only_the_likeliest() -> None:
    choice = Choice(temperature=2, top_p=0.5, seed=1)
    generator = choice.generator()

    assert {sample(SCORES, choice, generator) for _ in range(100)} == {3}
    nothing = Choice(top_p=0.0)
    assert sample(SCORES, nothing, nothing.generator()) == 3


@pytest.mark.parametrize(
    ("stops", "text", "sent", "is_stopped"),
    [
        ((), "abc", "abc", False),
        (("END",), "one END two", "one ", True),
        (("END",), "EN", "", False),
        (("END",), "ENEND", "EN", True),
        (("aab", "c"), "aaab", "a", True),
        (("xyz", "y"), "axyz", "ax", True),
    ],
)
def test_no_part_of_a_stop_is_sent(
    stops: tuple[str, ...], text: str, sent: str, is_stopped: bool
) -> None:
    held = Stops(stops)
    found = ""
    for character in text:
        more, stopped = held.feed(character)
        found += more
        if stopped:
            break

    assert (found, stopped) == (sent, is_stopped)
    if not is_stopped:
        assert found + held.rest() == text
