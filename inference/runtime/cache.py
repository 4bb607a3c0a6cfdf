"""Loaded models of one worker process: by bytes, least recently used first, loaded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from inference.runtime.sessions import Session

Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Slot:
    ready: threading.Event = field(default_factory=threading.Event)
    session: Session | None = None
    error: Exception | None = None


class ModelCache(Generic[Key]):
    """Keeps sessions until their bytes pass the capacity.

    Args:
        capacity_bytes: Sum of the sessions' `size_bytes`; the one in use always stays.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, load: Callable[[], Session]) -> Session:
        """Return a session; several threads that ask at once share one load.

        Raises:
            Exception: What `load` raised; the next call tries again.
        """
        with self._lock:
            slot = self._slots.get(key)
            is_mine = slot is None
            if slot is None:
                slot = self._slots[key] = _Slot()
            self._slots.move_to_end(key)
        if is_mine:
            self._load(key, slot, load)
        slot.ready.wait()
        if slot.session is None:
            raise slot.error or RuntimeError("The model was not loaded.")
        return slot.session

    def _load(self, key: Key, slot: _Slot, load: Callable[[], Session]) -> None:
        try:
            slot.session = load()
        except Exception as error:  # handed to every waiting thread
            slot.error = error
            with self._lock:
                self._slots.pop(key, None)
        finally:
            slot.ready.set()
        self._evict()

    def _evict(self) -> None:
        with self._lock:
            while len(self._slots) > 1 and self._bytes() > self._capacity:
                for key, slot in self._slots.items():
                    if slot.ready.is_set():
                        del self._slots[key]
                        break
                else:
                    return

    def _bytes(self) -> int:
        return sum(slot.session.size_bytes for slot in self._slots.values() if slot.session)

    def loaded(self) -> dict[Key, int]:
        """Return what is loaded: key → bytes."""
        with self._lock:
            return {
                key: slot.session.size_bytes for key, slot in self._slots.items() if slot.session
            }
