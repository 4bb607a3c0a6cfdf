"""What callers prefer, and what of it is followed."""

from __future__ import annotations

import pytest

from accounts.errors import InvalidRequestError
from inference.asynchronous import wishes


@pytest.mark.parametrize(
    ("header", "applied", "seconds"),
    [
        ("respond-async", "respond-async", 0),
        ("Respond-Async", "respond-async", 0),
        ("wait=5", "wait=5", 5),
        ('wait="5"', "wait=5", 5),
        ("wait=9000", "wait=9000", 60),
        ("respond-async, wait=10", "respond-async, wait=10", 10),
        ("return=minimal, respond-async;foo=bar", "respond-async", 0),
        ("wait=1, wait=2", "wait=1", 1),
    ],
)
def test_a_preference_is_followed(header: str, applied: str, seconds: float) -> None:
    wish = wishes.read({"prefer": header})

    assert wish is not None
    assert (wish.applied, wish.wait_seconds) == (applied, seconds)


@pytest.mark.parametrize(
    "header", ["", "wait", "wait=", "wait=-1", "wait=１", "wait=1e3", "return=minimal", ",;=,"]
)
def test_what_is_not_understood_is_left_aside(header: str) -> None:
    assert wishes.read({"prefer": header}) is None


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30s", 30), ("5m", 300), ("2h", 7200)])
def test_a_deadline_is_a_length_of_time(text: str, seconds: int) -> None:
    wish = wishes.read({"prefer": "respond-async", "cancel-after": text})

    assert wish is not None
    assert wish.start_within == seconds


@pytest.mark.parametrize("text", ["0", "-5", "5d", "soon", "1.5m", "５m", "99999999"])
def test_a_deadline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        wishes.read({"prefer": "respond-async", "cancel-after": text})

    assert caught.value.param == "Cancel-After"


def test_who_waits_for_the_answer_has_no_deadline_to_start() -> None:
    with pytest.raises(InvalidRequestError):
        wishes.read({"cancel-after": "5m"})
    with pytest.raises(InvalidRequestError):
        wishes.read({}, webhook="https://example.com/")
