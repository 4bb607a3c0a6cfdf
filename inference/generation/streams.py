"""Texts in the forms of OpenAI's answers: whole, or as events that a browser can follow."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from accounts import errors
from accounts.errors import MercatoError
from billing.money import decimal_text
from inference.answers import dumps
from inference.faces.http import HttpAnswer
from inference.generation.asking import Begun
from inference.generation.hearing import hear
from inference.generation.wire import End, Piece

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

    It begins with the first piece: what fails before that has a status of its own.

    Raises:
        MercatoError: The text failed before it began.
    """
    events = hear(begun)
    first = await anext(events)
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


async def _chunks(
    begun: Begun,
    style: Style,
    first: Piece | End,
    events: AsyncGenerator[Piece | End],
    with_usage: bool,
    request_id: str,
) -> AsyncGenerator[bytes]:
    extra: dict[str, Any] = {"usage": None} if with_usage else {}
    try:
        for body in style.first(begun):
            yield _event(body | extra)
        event = first
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
        await events.aclose()


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"
