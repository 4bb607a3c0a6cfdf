"""The plain connection to Redis: answers stay with their commands, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from inference.link import Link, predict_link

KEY = "test:link"
WAIT = ("BLPOP", KEY, 5)


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link(1)
    predict_link().ask(("DEL", KEY))
    yield made
    made.close()
    predict_link().ask(("DEL", KEY))


def cut(link: Link) -> None:
    """Let the server end a connection."""
    [mine] = link.ask(("CLIENT", "ID"))
    predict_link().ask(("CLIENT", "KILL", "ID", mine))


def listed() -> list[bytes]:
    found: list[bytes] = predict_link().ask(("LRANGE", KEY, 0, -1))[0]
    return found


def test_a_connection_that_died_is_opened_again(link: Link) -> None:
    cut(link)

    assert link.ask(("PING",)) == [b"PONG"]


def test_answers_that_nobody_fetched_are_not_taken_for_others(link: Link) -> None:
    link.send(("ECHO", "old"), ("ECHO", "older"))

    assert link.ask(("ECHO", "new")) == [b"new"]


def test_what_was_posted_is_carried_out_and_answers_nobody_else(link: Link) -> None:
    link.post(("RPUSH", KEY, "a"), ("RPUSH", KEY, "b"))
    link.post(("RPUSH", KEY, "c"))

    assert link.ask(("ECHO", "mine")) == [b"mine"]
    assert listed() == [b"a", b"b", b"c"]


def test_after_a_flush_what_was_posted_is_done(link: Link) -> None:
    link.post(("RPUSH", KEY, "a"))
    link.flush()

    assert listed() == [b"a"]
    link.flush()
    assert link.ask(("PING",)) == [b"PONG"]


def test_what_was_posted_on_a_connection_that_died_is_posted_again(link: Link) -> None:
    cut(link)
    link.post(("SET", KEY, "kept"))

    assert link.ask(("ECHO", "mine")) == [b"mine"]
    assert predict_link().ask(("GET", KEY)) == [b"kept"]


def test_what_was_posted_is_posted_again_after_somebody_gave_up(link: Link) -> None:
    link.post(("RPUSH", KEY, "a"))
    link.send(("ECHO", "old"))

    assert link.ask(("ECHO", "new")) == [b"new"]
    assert b"a" in listed()


def test_what_is_refused_is_said_once(link: Link) -> None:
    predict_link().ask(("SET", KEY, "text"))
    link.post(("RPUSH", KEY, "a"), ("PING",))

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        link.flush()
    assert link.ask(("PING",)) == [b"PONG"]


def test_a_command_that_was_sent_ahead_is_not_sent_again(link: Link) -> None:
    predict_link().ask(("RPUSH", KEY, "a", "b"))

    assert link.ask(("ECHO", "mine"), ahead=WAIT) == [b"mine"]

    assert listed() == [b"b"]
    assert link.answer_to(WAIT) == [KEY.encode(), b"a"]
    assert link.answer_to(WAIT) == [KEY.encode(), b"b"]


def test_a_command_that_was_sent_ahead_and_given_up_answers_nobody_else(link: Link) -> None:
    link.ask(("PING",), ahead=WAIT)

    assert link.ask(("ECHO", "mine")) == [b"mine"]
    predict_link().ask(("RPUSH", KEY, "a"))
    assert link.answer_to(WAIT) == [KEY.encode(), b"a"]


def test_a_command_that_was_sent_ahead_is_sent_again_when_its_connection_died(link: Link) -> None:
    [mine] = link.ask(("CLIENT", "ID"), ahead=WAIT)
    predict_link().ask(("CLIENT", "KILL", "ID", mine))
    predict_link().ask(("RPUSH", KEY, "a"))

    assert link.answer_to(WAIT) == [KEY.encode(), b"a"]
