"""POST /v1/chat/completions and /v1/completions, in OpenAI's form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from accounts.errors import MercatoError
from accounts.keys import Caller
from billing import ceilings
from inference.answers import dumps
from inference.faces import openai_fields as fields
from inference.faces.http import DirectFace, HttpAnswer, HttpRequest
from inference.generation import asking, options, streams
from inference.generation.asking import Ask, Begun
from inference.generation.hearing import hear
from inference.generation.streams import Style
from inference.generation.wire import End, Piece

_COMMON = frozenset(
    {"model", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream"}
    | {"stream_options", "user", "presence_penalty", "frequency_penalty", "logit_bias"}
)
_NOTHING = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}}


class TextFace(DirectFace):
    """A path that writes text: at once, or as a stream."""

    path: str
    style: Style
    known: frozenset[str]
    nothing: Mapping[str, Any]

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return path == self.path and method == "POST"

    @abstractmethod
    def prompt(self, found: Mapping[str, Any]) -> str:
        """Return the text to continue."""

    def stops(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return where an answer ends."""
        return options.stops(found)

    async def answer(self, request: HttpRequest, caller: Caller) -> HttpAnswer:
        """Have the text written.

        Raises:
            MercatoError: What is wrong with the request, or what failed before the first text.
        """
        found = fields.read(request, self.known)
        fields.only(found, self.nothing)
        is_stream = fields.flag(found, "stream")
        with_usage = fields.includes_usage(found)
        begun = await asking.begin(self._ask(request, caller, found))
        if is_stream:
            return await streams.answer(
                begun, self.style, with_usage=with_usage, request_id=request.request_id
            )
        return await self._whole(begun)

    def _ask(self, request: HttpRequest, caller: Caller, found: Mapping[str, Any]) -> Ask:
        return Ask(
            caller=caller,
            ref=options.text(found, "model"),
            prompt=self.prompt(found),
            choice=options.choice(found),
            request_id=request.request_id,
            max_tokens=options.max_tokens(found, "max_completion_tokens", "max_tokens"),
            stops=self.stops(found),
            input_bytes=len(request.body),
            ceiling_nanos=ceilings.read(request.headers.get("mercato-max-cost", "")),
        )

    async def _whole(self, begun: Begun) -> HttpAnswer:
        text, end = await collect(begun)
        body = self.style.whole(begun, text, end)
        return HttpAnswer(
            dumps(body),
            headers=(
                (b"mercato-cost", streams.cost_text(end).encode()),
                *begun.headers,
            ),
        )


async def collect(begun: Begun) -> tuple[str, End]:
    """Return a whole text and its end.

    Raises:
        MercatoError: It failed.
    """
    pieces: list[str] = []
    events: AsyncGenerator[Piece | End] = hear(begun)
    async for event in events:
        if isinstance(event, End):
            return "".join(pieces), event
        pieces.append(event.text)
    raise MercatoError("The text has no end.")


class Chat(TextFace):
    """`{"messages": […]}` → an assistant's message.

    The models here continue text: messages are paragraphs, and the answer is the next one.
    """

    path = "/v1/chat/completions"
    style: Style = streams.ChatStyle()
    known = _COMMON | {"messages", "max_completion_tokens", "logprobs", "response_format"}
    nothing = {**_NOTHING, "logprobs": False, "response_format": {"type": "text"}}

    def prompt(self, found: Mapping[str, Any]) -> str:
        """Return the messages, a paragraph each."""
        messages = found.get("messages")
        if not isinstance(messages, list) or not messages:
            raise options.refuse("messages", "must be a non-empty list.")
        return "".join(
            f"{_content(message, f'messages.{place}')}\n" for place, message in enumerate(messages)
        )

    def stops(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return where an answer ends: with its paragraph, or before."""
        return (*options.stops(found), "\n")


_ROLES = frozenset({"system", "developer", "user", "assistant"})


def _content(message: Any, param: str) -> str:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise options.refuse(param, f"needs a role: {', '.join(sorted(_ROLES))}.")
    for name in message:
        if name not in {"role", "content", "name"}:
            raise options.refuse(f"{param}.{name[:64]}", "is not known.")
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise options.refuse(f"{param}.content", "must be text.")
    parts = [_part(part, f"{param}.content.{place}") for place, part in enumerate(content)]
    return "\n".join(parts)


def _part(part: Any, param: str) -> str:
    if isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text":
        return options.text(part, "text")
    raise options.refuse(param, "must be text: no model here reads anything else.")


class Completions(TextFace):
    """`{"prompt": "…"}` → the text that follows."""

    path = "/v1/completions"
    style: Style = streams.CompletionStyle()
    known = _COMMON | {"prompt", "echo", "best_of", "suffix"}
    nothing = {**_NOTHING, "echo": False, "best_of": 1, "suffix": ""}

    def prompt(self, found: Mapping[str, Any]) -> str:
        """Return the text to continue."""
        value = found.get("prompt", "")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str):
            raise options.refuse("prompt", "must be one string.")
        return value
