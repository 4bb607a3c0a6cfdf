"""Acts that happen at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection


def in_threads(number: int, act: Callable[[], Any]) -> list[Any]:
    """Run an act in threads that begin together; what fails in one fails here."""
    return numbered(number, lambda _: act())


def numbered(number: int, act: Callable[[int], Any]) -> list[Any]:
    """Do the same with an act that is told which of them it is, from 0."""
    barrier = threading.Barrier(number)

    def one(place: int) -> Any:
        try:
            barrier.wait()
            return act(place)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))
