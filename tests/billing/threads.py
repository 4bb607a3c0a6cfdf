"""Acts that happen at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection


def in_threads(number: int, act: Callable[[], Any]) -> list[Any]:
    """Run an act in threads that begin together; what fails in one fails here."""
    barrier = threading.Barrier(number)

    def one(_: int) -> Any:
        try:
            barrier.wait()
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))
