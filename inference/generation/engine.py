"""Writes texts in a predict worker: all texts of a version take their steps together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import redis
from django.conf import settings
from django.db import connections

from inference import loading
from inference.batch_files import giving_way
from inference.connections import PREDICT_DB, redis_client
from inference.generation import charging, steps
from inference.generation.texts import Text
from inference.generation.wire import (
    EVENT,
    Order,
    Piece,
    gone_key,
    listening_key,
    order_key,
    pack_event,
    pieces_key,
    unpack_order,
)
from inference.runtime.writers import WriterSession
from inference.turns import Turns
from inference.wire import taken_key

logger = logging.getLogger(__name__)
# More texts at once make each of them slower, and no more characters a second.
MAX_ACTIVE = 64
# Characters are told in pieces: a message for each would cost more than writing it.
_TELL_SECONDS = 0.02
_PAUSE_SECONDS = 0.25
_engines: dict[int, Engine] = {}
_lock = threading.Lock()


def write(order_id: str, worker_name: str) -> None:
    """Take an order, unless another worker has; the text is written by its version's thread."""
    client = redis_client(PREDICT_DB)
    pipeline = client.pipeline(transaction=False)
    pipeline.set(
        taken_key(order_id), worker_name, nx=True, px=settings.PREDICT_TIMEOUT_SECONDS * 3000
    )
    pipeline.get(order_key(order_id))
    is_mine, data = pipeline.execute()
    if not is_mine or not data:
        return
    order = unpack_order(data)
    with _lock:
        engine = _engines.setdefault(order.version_id, Engine(order.version_id, worker_name))
    engine.submit(order)


def drain(seconds: float) -> None:
    """Wait until all texts under way have ended, but not for ever."""
    deadline = time.monotonic() + seconds
    for engine in list(_engines.values()):
        engine.join(max(deadline - time.monotonic(), 0.0))


class Engine:
    """The texts of one version in this process, and the thread that writes them."""

    def __init__(self, version_id: int, worker_name: str) -> None:
        self._version_id, self._worker = version_id, worker_name
        self._waiting: Turns[Order] = Turns()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._told_at = 0.0
        self._pause = threading.Event()
        self._held = ExitStack()
        self._loaded: WriterSession | None = None

    def submit(self, order: Order) -> None:
        """Add a text; a thread starts if none runs."""
        with self._lock:
            self._waiting.put(order.organization_id, order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
                self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        active: list[Text] = []
        try:
            # The model stays loaded while it writes, and what can wait gives way.
            with giving_way.live_call(), ExitStack() as held:
                self._held, self._loaded = held, None
                self._write(active)
        finally:
            connections.close_all()

    def _write(self, active: list[Text]) -> None:
        while self._gather(active):
            try:
                active = self._advance(active)
            except redis.RedisError as error:
                # What was written is told again when Redis is back.
                logger.warning("%s texts of version %s: %s", len(active), self._version_id, error)
                active = [text for text in active if text.is_awaited()]
                self._pause.wait(_PAUSE_SECONDS)
            except Exception:  # the thread's edge: without the database, for one
                # The gateways see that nothing comes, and end the holds; or they expire.
                logger.exception("%s texts of version %s", len(active), self._version_id)
                active = []

    def _gather(self, active: list[Text]) -> bool:
        """Let waiting texts begin; False if there is nothing to do, and the thread ends."""
        with self._lock:
            taken = [
                self._waiting.take()
                for _ in range(min(MAX_ACTIVE - len(active), len(self._waiting)))
            ]
            if not taken and not active:
                self._thread = None
                return False
        if taken:
            active += self._begin(taken)
        return True

    def _begin(self, orders: Sequence[Order]) -> list[Text]:
        try:
            session = self._session()
            states = session.fresh(len(orders))
            vocabulary = loading.signature_of(self._version_id).vocabulary
        except Exception:  # a damaged file may raise anything, and every caller must be answered
            logger.exception("version %s cannot be loaded", self._version_id)
            texts = [Text.of(order, np.zeros(0, np.float32), "") for order in orders]
            for text in texts:
                text.fail("platform_error")
            return texts
        pairs = zip(orders, states, strict=True)
        return [Text.of(order, state, vocabulary) for order, state in pairs]

    def _session(self) -> WriterSession:
        if self._loaded is None:
            session = self._held.enter_context(loading.using(self._version_id))
            assert isinstance(session, WriterSession)
            self._loaded = session
        return self._loaded

    def _advance(self, active: list[Text]) -> list[Text]:
        """Take one step with every text; returns those that have not ended."""
        going = [text for text in active if not text.has_ended]
        if going:
            steps.take(self._session(), going)
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS or any(text.has_ended for text in active):
            self._told_at = now
            self._tell(active)
        ended = [text for text in active if text.outcome]
        if ended:
            charging.finish(ended, self._worker)
        return [text for text in active if not text.has_ended]

    def _tell(self, texts: Sequence[Text]) -> None:
        """Send what was written, and ask whether anybody still waits for it."""
        pipeline = redis_client(PREDICT_DB).pipeline(transaction=False)
        for text in texts:
            order_id = text.order.order_id
            pipeline.mget(gone_key(order_id), listening_key(order_id))
            if text.unsent:
                event = pack_event(Piece(text.sent, text.unsent))
                pipeline.xadd(pieces_key(order_id), {EVENT: event})
                pipeline.pexpire(pieces_key(order_id), settings.PREDICT_TIMEOUT_SECONDS * 3000)
        asked = [one for one in pipeline.execute() if isinstance(one, list)]
        for text, (gone, listening) in zip(texts, asked, strict=True):
            text.sent = len(text.written)
            text.leave(gone, is_heard=listening is not None)
