"""What a gateway hears of a text, until its end is sure; what it does when a worker has died."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

import redis
from django.conf import settings

from accounts.errors import MercatoError, OverloadedError
from billing import holds
from billing.models import Hold
from inference import errors, limits, placing
from inference.generation import listening, ringing
from inference.generation.asking import Begun
from inference.generation.wire import (
    ENDED,
    EVENT,
    End,
    Event,
    Piece,
    pieces_key,
    unpack_event,
)
from inference.predictions import in_database
from inference.routing import Route
from inference.wire import heartbeat_key, taken_key

logger = logging.getLogger(__name__)
# How long to wait for more text before looking whether the worker still lives.
_LOOK_MS = 1000
# An order that nobody has taken is rung for again: its message died with a worker.
_RING_SECONDS = 3.0
_PAUSE_SECONDS = 0.25


async def hear(begun: Begun) -> AsyncGenerator[Piece | End]:
    """Pass on what a worker writes; the last thing is the end, when it has been charged.

    Whoever stops listening before that gives the text up: it is not written on.

    Raises:
        MercatoError: It failed; nothing was charged, except by the version's outcome policy.
    """
    hearing = _Hearing(begun)
    # As it is if the caller goes away meanwhile.
    outcome = "canceled"
    try:
        while not hearing.is_sure:
            for piece in await hearing.next():
                yield piece
        end = hearing.ending()
        outcome = end.outcome
        yield end
    except MercatoError as error:
        outcome = error.code
        raise
    except Exception:  # counted as what the caller is told, and raised again
        outcome = "internal_error"
        raise
    finally:
        begun.count(outcome)
        # The caller's task may be ended at this moment: the worker is told all the same.
        await asyncio.shield(hearing.close())


class _Hearing:
    """One text, heard from its first piece to its end."""

    def __init__(self, begun: Begun) -> None:
        self._hold_id = begun.hold_id
        self._order_id = begun.hold_id.hex
        self._version_id = begun.version_id
        self._counted = begun.counted
        self._end: End | None = None
        # Whether the hold has ended in the way that the worker told.
        self.is_sure = False
        self._is_void = False
        self._after: bytes | str = "0"
        self._length = 0
        self._heard_at = self._rung_at = time.monotonic()

    async def next(self) -> list[Piece]:
        """Wait for more text, or for a second."""
        try:
            events = await self._read(_LOOK_MS)
            if not events:
                await self._look()
        except redis.RedisError as error:
            # What the worker has told is still there when Redis is back.
            logger.warning("text %s: %s", self._order_id, error)
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._check_patience()
            return []
        return [piece for event in events if (piece := await self._take(event)) is not None]

    async def _read(self, block_ms: int | None) -> list[Event]:
        found: Any = await listening.client().xread(
            {pieces_key(self._order_id): self._after}, block=block_ms
        )
        if not found:
            return []
        # One stream was asked for: a list of pairs, or by name in the newer protocol.
        ((_, entries),) = found.items() if isinstance(found, dict) else found
        if isinstance(found, dict):
            (entries,) = entries
        self._heard_at = time.monotonic()
        self._after = entries[-1][0]
        return [unpack_event(fields[EVENT]) for _, fields in entries]

    async def _take(self, event: Event) -> Piece | None:
        if isinstance(event, Piece):
            # What was told twice is passed on once.
            text = event.text[max(self._length - event.start, 0) :]
            self._length += len(text)
            return Piece(self._length - len(text), text) if text else None
        if isinstance(event, End):
            self._end = event
        elif event.is_ours or await in_database(self._has_ended_so):
            self.is_sure = True
        else:
            raise await self._give_up(errors.WorkerLostError(_LOST))
        return None

    async def _look(self) -> None:
        """Find out why nothing comes."""
        await self._check_patience()
        owner: Any = await listening.client().get(taken_key(self._order_id))
        if owner is None:
            if time.monotonic() - self._rung_at >= _RING_SECONDS:
                self._rung_at = time.monotonic()
                await self._ring()
        elif not await listening.client().exists(heartbeat_key(owner.decode())):
            # It may have told the end just before it died.
            for event in await self._read(None):
                await self._take(event)
            if not self.is_sure:
                await self._resolve(errors.WorkerLostError(_LOST))

    async def _ring(self) -> None:
        """Let any worker take it: the one it was sent to may have died before it did."""
        try:
            await in_database(placing.require_worker, self._version_id)
        except errors.NoWorkerError as error:
            await self._resolve(error)
        await in_database(ringing.ring, self._order_id, self._version_id, Route())

    async def _check_patience(self) -> None:
        if time.monotonic() - self._heard_at >= settings.PREDICT_TIMEOUT_SECONDS:
            await self._resolve(
                errors.PredictionTimeoutError(
                    f"No text within {settings.PREDICT_TIMEOUT_SECONDS} seconds. "
                    "Nothing was charged."
                )
            )

    async def _resolve(self, reason: MercatoError) -> None:
        """End the hold; if it was charged as told before the worker died, the text is whole.

        Raises:
            MercatoError: The reason; nothing is charged.
        """
        error = await self._give_up(reason)
        if not self._is_void and await in_database(self._has_ended_so):
            self.is_sure = True
        else:
            raise error

    async def _give_up(self, reason: MercatoError) -> MercatoError:
        self._is_void = await in_database(holds.void, self._hold_id, reason.code)
        return reason

    def _has_ended_so(self) -> bool:
        """Whether the hold has ended in the way that the worker told."""
        if self._end is None:
            return False
        hold = Hold.objects.get(pk=self._hold_id)
        if hold.state == Hold.State.CAPTURED:
            return True
        return hold.state != Hold.State.AUTHORISED and self._end.outcome != "succeeded"

    def ending(self) -> End:
        """Return the end.

        Raises:
            MercatoError: It failed.
        """
        assert self._end is not None
        if self._end.outcome == "model_error":
            raise errors.ModelFailedError("The model failed on this text.")
        if self._end.outcome != "succeeded":
            raise OverloadedError("The text cannot be written at the moment. Nothing was charged.")
        return self._end

    async def close(self) -> None:
        """Give back what limits hold, and tell the worker, if it still writes, to stop."""
        limits.leave(self._counted)
        if self.is_sure:
            await listening.end(self._order_id)
        elif self._is_void:
            await listening.stop(self._order_id, ENDED)
        else:
            await listening.stop(self._order_id)


_LOST = "The worker died while it wrote this. Nothing was charged."
