"""A stream of a model that must be loaded first says so, and is no other stream for a program."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from pytest_django import Settings

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import Organization
from billing import holds
from billing.models import Hold
from inference import routing, starts
from inference.connections import PREDICT_DB, redis_client
from inference.faces.openai_text import Completions
from inference.generation import asking, hearing, streams
from inference.generation.asking import Ask
from inference.generation.wire import (
    CANCELED,
    EVENT,
    Charged,
    Piece,
    gone_key,
    pack_event,
    pieces_key,
)
from inference.registry import Member
from inference.runtime.sampling import Choice
from tests.inference.generation.test_hearing import END, charge, tell
from tests.inference.writers import make_writer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("books")]
STARTING = b": starting, about 4 s\n\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(hearing, "_LOOK_MS", 20)
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(streams, "AGAIN_SECONDS", 0.05)
    # A pool without workers: those of other tests must not take these orders.
    settings.PREDICT_POOL = "nobody"


def write(hold_id: UUID) -> None:
    """Do what a worker does; charged before it is told, because the gateway hears it at once."""
    charge(hold_id)
    for event in (Piece(0, "abcd"), END, Charged(is_ours=True)):
        redis_client(PREDICT_DB).xadd(pieces_key(hold_id.hex), {EVENT: pack_event(event)})


def die(hold_id: UUID) -> None:
    tell(hold_id, [])


class Reader:
    """A caller that reads a stream; something happens when it was told to wait."""

    def __init__(self, organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
        self._organization, self._monkeypatch = organization, monkeypatch
        self.version = make_writer()
        starts.record(self.version.pk, 4000, 1)

    async def begin(self, *, is_warm: bool) -> asking.Begun:
        begun = await asking.begin(
            Ask(
                caller=Caller(self._organization.pk, self._organization.slug),
                ref=self.version.model.path,
                prompt="Hello",
                choice=Choice(seed=4),
                request_id="r1",
                max_tokens=10,
            )
        )
        loaded = frozenset({self.version.pk} if is_warm else ())
        picture = routing._picture("nobody", [Member("a", loaded=loaded)])
        self._monkeypatch.setattr(routing, "fleet", lambda: picture)
        return begun

    async def cold(self, happens: object) -> list[bytes]:
        """Let something happen after the second comment; returns all chunks."""
        begun = await self.begin(is_warm=False)
        answer = await streams.answer(begun, Completions.style, with_usage=False)
        assert answer.chunks is not None
        found = [await anext(answer.chunks), await anext(answer.chunks)]
        await asyncio.to_thread(happens, begun.hold_id)  # type: ignore[arg-type]  # any function
        return found + [chunk async for chunk in answer.chunks]

    async def warm(self, happens: object) -> list[bytes]:
        begun = await self.begin(is_warm=True)
        await asyncio.to_thread(happens, begun.hold_id)  # type: ignore[arg-type]  # any function
        answer = await streams.answer(begun, Completions.style, with_usage=False)
        assert answer.chunks is not None
        return [chunk async for chunk in answer.chunks]


@pytest.fixture
def reader(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(organization, monkeypatch)


def test_who_waits_for_a_load_is_told_how_long_in_comments(reader: Reader) -> None:
    chunks = asyncio.run(reader.cold(write))

    comments = [chunk for chunk in chunks if not chunk.startswith(b"data: ")]
    assert chunks[:2] == [STARTING, STARTING]
    # All before the text, and nothing but comments.
    assert chunks[: len(comments)] == comments == [STARTING] * len(comments)
    assert b'"abcd"' in chunks[len(comments)]
    assert chunks[-1] == streams.DONE


def test_what_is_loaded_says_nothing_of_the_kind(reader: Reader) -> None:
    chunks = asyncio.run(reader.warm(write))

    assert all(chunk.startswith(b"data: ") for chunk in chunks)
    assert chunks[-1] == streams.DONE


def test_what_fails_after_a_comment_is_an_event_and_else_has_a_status(reader: Reader) -> None:
    chunks = asyncio.run(reader.cold(die))

    assert chunks[0] == STARTING
    assert b'"code":"worker_lost"' in chunks[-1]
    with pytest.raises(MercatoError) as failed:
        asyncio.run(reader.warm(die))
    assert failed.value.code == "worker_lost"
    assert set(Hold.objects.values_list("state", flat=True)) == {"voided"}


def test_who_leaves_while_the_model_is_loaded_gives_the_text_up(reader: Reader) -> None:
    async def leave() -> UUID:
        begun = await reader.begin(is_warm=False)
        answer = await streams.answer(begun, Completions.style, with_usage=False)
        assert answer.chunks is not None
        await anext(answer.chunks)
        await answer.chunks.aclose()
        # At once: the end of the loop would end whoever still listens.
        assert redis_client(PREDICT_DB).get(gone_key(begun.hold_id.hex)) == CANCELED
        return begun.hold_id

    holds.void(asyncio.run(leave()), "canceled")
