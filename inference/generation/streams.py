"""Texts in the forms of OpenAI's answers: whole, or as events that a browser can follow."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from django.db import DatabaseError

from accounts import errors
from accounts.errors import MercatoError
from billing.money import decimal_text
from inference import routing, starting
from inference.answers import dumps
from inference.faces.http import HttpAnswer
from inference.generation.asking import Begun
from inference.generation.hearing import hear
from inference.generation.wire import End, Piece
from inference.predictions import in_database

logger = logging.getLogger(__name__)
# A stream whose model is being loaded begins after so long without text, and says so again.
SILENT_SECONDS = 1.0
AGAIN_SECONDS = 5.0
DONE = b"data: [DONE]\n\n"


class Style(Protocol):
    """One of the two forms."""

    def whole(self, begun: Begun, text: str, end: End) -> dict[str, Any]:
        """Return the body of a whole answer."""

    def first(self, begun: Begun) -> list[dict[str, Any]]:
        """Return what a stream begins with."""

    def piece(self, begun: Begun, text: str) -> dict[str, Any]:
        """Return one more piece."""

    def last(self, begun: Begun, end: End) -> dict[str, Any]:
        """Return the piece that says why the text ended."""

    def empty(self, begun: Begun) -> dict[str, Any]:
        """Return a piece without a choice, to which what was used is added."""


class ChatStyle:
    """Of /v1/chat/completions."""

    def whole(self, begun: Begun, text: str, end: End) -> dict[str, Any]:
        """Return the body of a whole answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}
        return _head(begun, "chatcmpl", "chat.completion", [choice]) | _used(begun, end)

    def first(self, begun: Begun) -> list[dict[str, Any]]:
        """Return what a stream begins with: who speaks."""
        return [self._chunk(begun, {"role": "assistant", "content": ""}, None)]

    def piece(self, begun: Begun, text: str) -> dict[str, Any]:
        """Return one more piece."""
        return self._chunk(begun, {"content": text}, None)

    def last(self, begun: Begun, end: End) -> dict[str, Any]:
        """Return the piece that says why the text ended."""
        return self._chunk(begun, {}, end.reason)

    def empty(self, begun: Begun) -> dict[str, Any]:
        """Return a piece without a choice."""
        return _head(begun, "chatcmpl", "chat.completion.chunk", [])

    def _chunk(self, begun: Begun, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self.empty(begun) | {"choices": [choice]}


class CompletionStyle:
    """Of /v1/completions."""

    def whole(self, begun: Begun, text: str, end: End) -> dict[str, Any]:
        """Return the body of a whole answer."""
        return self._chunk(begun, text, end.reason) | _used(begun, end)

    def first(self, begun: Begun) -> list[dict[str, Any]]:
        """Return nothing: a stream begins with text."""
        return []

    def piece(self, begun: Begun, text: str) -> dict[str, Any]:
        """Return one more piece."""
        return self._chunk(begun, text, None)

    def last(self, begun: Begun, end: End) -> dict[str, Any]:
        """Return the piece that says why the text ended."""
        return self._chunk(begun, "", end.reason)

    def empty(self, begun: Begun) -> dict[str, Any]:
        """Return a piece without a choice."""
        return _head(begun, "cmpl", "text_completion", [])

    def _chunk(self, begun: Begun, text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return self.empty(begun) | {"choices": [choice]}


def _head(begun: Begun, prefix: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{begun.hold_id.hex}",
        "object": kind,
        "created": int(begun.created_at.timestamp()),
        "model": begun.version_path,
        "choices": choices,
    }


def _used(begun: Begun, end: End) -> dict[str, Any]:
    return {
        "usage": {
            "prompt_tokens": begun.input_tokens,
            "completion_tokens": end.output_tokens,
            "total_tokens": begun.input_tokens + end.output_tokens,
        },
        "cost": {
            "amount": cost_text(end),
            "currency": begun.currency,
            "units": {"input_token": begun.input_tokens, "output_token": end.output_tokens},
            "price_version": begun.price_version_id,
            "hold": str(begun.hold_id),
            "receipt": f"/v1/receipts/{begun.hold_id}",
        },
    }


def cost_text(end: End) -> str:
    """Return what a text cost, as the header `Mercato-Cost` says it."""
    return decimal_text(end.cost_nanos)


async def answer(
    begun: Begun, style: Style, *, with_usage: bool, request_id: str = ""
) -> HttpAnswer:
    """Return an answer that goes on while the text is written.

    It begins with the first piece: what fails before that has a status of its own. Only where the
    model must be loaded, and that takes longer than a second, it begins before.

    Raises:
        MercatoError: The text failed before it began.
    """
    events = hear(begun)
    first = asyncio.create_task(_next(events))
    try:
        silent = None if routing.is_warm(begun.version_id) else SILENT_SECONDS
        await asyncio.wait({first}, timeout=silent)
        if first.done():
            # Here, and not in the body, so that a failure has its status.
            first.result()
    except BaseException:
        await _end(first, events)
        raise
    return HttpAnswer(
        b"",
        content_type=b"text/event-stream; charset=utf-8",
        headers=(
            (b"mercato-hold", str(begun.hold_id).encode()),
            # Proxies must pass each piece on at once.
            (b"x-accel-buffering", b"no"),
            *begun.headers,
        ),
        chunks=_chunks(begun, style, first, events, with_usage, request_id),
    )


async def _next(events: AsyncGenerator[Piece | End]) -> Piece | End:
    return await anext(events)


async def _end(first: asyncio.Task[Piece | End], events: AsyncGenerator[Piece | End]) -> None:
    """Stop listening: whoever waits for the first piece must have ended before."""
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await events.aclose()


async def _starting(begun: Begun, first: asyncio.Task[Piece | End]) -> AsyncGenerator[bytes]:
    """Say that the model is being loaded, in comments: programs read the lines of data alone."""
    while not first.done():
        left = await in_database(_seconds_left, begun.version_id)
        yield b": starting, about %d s\n\n" % math.ceil(left) if left else b": ping\n\n"
        await asyncio.wait({first}, timeout=AGAIN_SECONDS)


def _seconds_left(version_id: int) -> float:
    """Return how much longer the load will take; 0 also if nobody can tell."""
    try:
        return starting.seconds_left(version_id)
    except DatabaseError as error:
        # A comment is not worth a text.
        logger.warning("estimate of version %s: %s", version_id, error)
        return 0.0


async def _chunks(
    begun: Begun,
    style: Style,
    first: asyncio.Task[Piece | End],
    events: AsyncGenerator[Piece | End],
    with_usage: bool,
    request_id: str,
) -> AsyncGenerator[bytes]:
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    try:
        async with aclosing(_starting(begun, first)) as comments:
            async for comment in comments:
                yield comment
        event = await first
        for body in style.first(begun):
            yield _event(body | extra)
        while isinstance(event, Piece):
            yield _event(style.piece(begun, event.text) | extra)
            event = await anext(events)
        yield _event(style.last(begun, event) | extra)
        if with_usage:
            yield _event(style.empty(begun) | _used(begun, event))
        yield DONE
    except MercatoError as error:
        # The status has gone out already: clients look for `error` in the events.
        yield _event(errors.body_of(error, request_id))
    finally:
        await _end(first, events)


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"
