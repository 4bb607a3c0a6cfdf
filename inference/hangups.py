"""What happens when a caller goes away while something is made for it: it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Made = TypeVar("Made")


async def _gone(receive: Receive) -> None:
    """Wait until the caller has gone; its body has arrived."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_unless_gone(making: Coroutine[Any, Any, Made], receive: Receive) -> Made:
    """Await what is made for a caller.

    Raises:
        ConnectionError: The caller went away; the making was canceled and has ended.
    """
    gone = asyncio.ensure_future(_gone(receive))
    made = asyncio.ensure_future(making)
    try:
        await asyncio.wait({gone, made}, return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        raise ConnectionError
    finally:
        await _cancel(made)
        await _cancel(gone)


async def send_unless_gone(chunks: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send a body while it is made; when the caller goes away, its generator is closed."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        while not gone.done():
            following = asyncio.ensure_future(_next(chunks))
            await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await _cancel(following)
                return
            chunk = following.result()
            if chunk is None:
                await send({"type": "http.response.body", "body": b""})
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        await chunks.aclose()
        await _cancel(gone)


async def _next(chunks: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
