"""What a face is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from accounts.keys import Caller
from inference.answers import Answer
from inference.predictions import Call, Replay

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request whose body has arrived.

    Attributes:
        headers: By lower-case name.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    request_id: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What is sent back; the door adds the headers that all answers have.

    Attributes:
        chunks: The body, if it is sent while it is made; closed when the caller goes away.
    """

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    headers: tuple[Header, ...] = ()
    chunks: AsyncGenerator[bytes] | None = None


# Not a Protocol: whether a face is one is asked for every request, and of a Protocol that is slow.
class DirectFace(ABC):
    """A protocol whose answers are not predictions of a batch; it does all by itself."""

    @abstractmethod
    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""

    @abstractmethod
    async def answer(self, request: HttpRequest, caller: Caller) -> HttpAnswer:
        """Do what is asked; canceled when the caller goes away.

        Raises:
            MercatoError: What is wrong with it, or what failed.
        """


class Face(Protocol):
    """One protocol: from a request to a Call, from an answer to what is sent."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked.

        Raises:
            MercatoError: What is wrong with it.
        """

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into the protocol's form."""
