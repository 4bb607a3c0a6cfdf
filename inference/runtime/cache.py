"""Loaded models of one worker process: by bytes, least recently used first, loaded once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from inference.runtime.sessions import Session

Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Slot:
    ready: threading.Event = field(default_factory=threading.Event)
    session: Session | None = None
    error: Exception | None = None
    # How many runs use it at this moment; only what nobody uses is unloaded.
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)


class ModelCache(Generic[Key]):
    """Keeps sessions until their bytes pass the capacity.

    What is pinned, what is in use and what was used last stays, even if that is too much.

    Args:
        capacity_bytes: Sum of the sessions' `size_bytes`.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._pinned: frozenset[Key] = frozenset()
        self._lock = threading.Lock()

    def get(self, key: Key, load: Callable[[], Session]) -> Session:
        """Return a session; several threads that ask at once share one load.

        Raises:
            Exception: What `load` raised; the next call tries again.
        """
        with self.using(key, load) as session:
            return session

    @contextmanager
    def using(self, key: Key, load: Callable[[], Session]) -> Iterator[Session]:
        """Like `get`; the session stays in memory until the block ends.

        Raises:
            Exception: What `load` raised; the next call tries again.
        """
        slot, is_mine = self._enter(key)
        try:
            if is_mine:
                self._load(key, slot, load)
            slot.ready.wait()
            if slot.session is None:
                raise slot.error or RuntimeError("The model was not loaded.")
            yield slot.session
        finally:
            self._leave(slot)

    def _enter(self, key: Key) -> tuple[_Slot, bool]:
        with self._lock:
            slot = self._slots.get(key)
            is_mine = slot is None
            if slot is None:
                slot = self._slots[key] = _Slot()
            slot.users += 1
            self._slots.move_to_end(key)
            return slot, is_mine

    def _leave(self, slot: _Slot) -> None:
        with self._lock:
            slot.users -= 1
            slot.used_at = time.monotonic()
            self._evict()

    def _load(self, key: Key, slot: _Slot, load: Callable[[], Session]) -> None:
        try:
            slot.session = load()
        except Exception as error:  # handed to every waiting thread
            slot.error = error
            with self._lock:
                self._slots.pop(key, None)
        finally:
            slot.ready.set()
        with self._lock:
            self._evict()

    def _evict(self) -> None:
        """Unload until the rest fits; the lock is held."""
        excess = self._bytes() - self.capacity_bytes
        if excess <= 0:
            return
        for key in list(self._slots)[:-1]:
            slot = self._slots[key]
            if slot.session is None or slot.users or key in self._pinned:
                continue
            del self._slots[key]
            excess -= slot.session.size_bytes
            if excess <= 0:
                return

    def _bytes(self) -> int:
        return sum(slot.session.size_bytes for slot in self._slots.values() if slot.session)

    def is_ready(self, key: Key) -> bool:
        """Whether a session can be used at once."""
        slot = self._slots.get(key)
        return slot is not None and slot.session is not None

    def pin(self, keys: Collection[Key]) -> None:
        """Set what is never unloaded to make room; replaces what was set before."""
        with self._lock:
            self._pinned = frozenset(keys)
            self._evict()

    def unload(self, key: Key) -> bool:
        """Forget a session; a run that uses it ends first. False if it is not loaded."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.session is None:
                return False
            del self._slots[key]
            return True

    def unload_idle(self, seconds: float) -> list[Key]:
        """Forget what nobody has used for so long and what is not pinned; returns what."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [
                key
                for key, slot in self._slots.items()
                if slot.session and not slot.users and slot.used_at <= before
            ]
            gone = [key for key in idle if key not in self._pinned]
            for key in gone:
                del self._slots[key]
            return gone

    def loaded(self) -> dict[Key, int]:
        """Return what is loaded: key → bytes."""
        with self._lock:
            return {
                key: slot.session.size_bytes for key, slot in self._slots.items() if slot.session
            }
