"""A closed-loop load generator: each connection sends its next request when it has an answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop


@dataclass
class Measured:
    """What one run measured; latencies in seconds, sorted."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Answers with status 200 per second."""
        return self.statuses[200] / self.seconds

    def percentile(self, percent: int) -> float:
        """Return a latency in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000


class _Client(asyncio.Protocol):
    """One keep-alive connection; reads only what is needed to know where an answer ends."""

    def __init__(self, request: bytes, measured: Measured, until: float, done: asyncio.Event):
        self._request, self._measured, self._until, self._done = request, measured, until, done
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < head_end + 4 + length:
            return
        now = time.perf_counter()
        self._buffer = b""
        self._measured.latencies.append(now - self._sent)
        self._measured.statuses[int(head[9:12])] += 1
        if now < self._until:
            self._send()
        else:
            self._transport.close()
            self._done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()


async def of_clients(
    host: str, port: int, requests: Sequence[bytes], clients: int, seconds: float
) -> Measured:
    """Send requests over `clients` connections for `seconds`; each connection always its own."""
    measured = Measured()
    loop = asyncio.get_running_loop()
    events = [asyncio.Event() for _ in range(clients)]
    start = time.perf_counter()
    for place, done in enumerate(events):
        request = requests[place % len(requests)]
        await loop.create_connection(
            lambda done=done, request=request: _Client(request, measured, start + seconds, done),  # type: ignore[misc]
            host,
            port,
        )
    await asyncio.gather(*(done.wait() for done in events))
    measured.seconds = time.perf_counter() - start
    return measured


def run(
    host: str, port: int, request: bytes | Sequence[bytes], clients: int, seconds: float
) -> Measured:
    """Do the same from outside of an event loop; one request is everybody's."""
    requests = [request] if isinstance(request, bytes) else request
    return uvloop.run(of_clients(host, port, requests, clients, seconds))


def post(
    path: str,
    port: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    content_type: str = "application/json",
) -> bytes:
    """Return the bytes of a POST."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
