"""A plain connection to Redis for the path of every batch: many commands, one round trip.

redis-py's client spends 0.1 to 0.4 ms of CPU on each call (copies of its tables, retries,
attributes for metrics); a batch makes a dozen. Its connections, used directly, spend a tenth.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import redis

from inference.connections import PREDICT_DB, redis_client

Command = Sequence[str | bytes | int | float]
_local = threading.local()


class Link:
    """One thread's connection; not for several threads."""

    def __init__(self, db: int) -> None:
        self.pid = os.getpid()
        # redis-py does not say what its connections return.
        self._connection: Any = redis_client(db).connection_pool.make_connection()
        self._unread = 0

    def ask(self, *commands: Command) -> list[Any]:
        """Send commands together and return their answers.

        A connection that has died since the last use is opened again, once, and everything is sent
        again: commands must bear being carried out twice.

        Raises:
            RedisError: No answer, or one of the answers is an error.
        """
        try:
            return self._ask(commands)
        except (redis.ConnectionError, redis.TimeoutError):
            return self._ask(commands)

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        self.send(*commands)
        return [self.read() for _ in commands]

    def send(self, *commands: Command) -> None:
        """Send commands whose answers are fetched by as many calls of `read`.

        Raises:
            RedisError: They cannot be sent.
        """
        if self._unread:
            # A caller gave up in between: what is still on its way belongs to nobody.
            self.close()
        self._unread = len(commands)
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except redis.RedisError:
            self.close()
            raise

    def read(self) -> Any:
        """Wait for the next answer.

        Raises:
            RedisError: There is none, or it is an error.
        """
        try:
            answer = self._connection.read_response()
        except redis.RedisError:
            self.close()
            raise
        self._unread -= 1
        return answer

    def close(self) -> None:
        """Close the connection; the next command opens it again."""
        self._unread = 0
        self._connection.disconnect()


def predict_link() -> Link:
    """Return this thread's connection to the predictions' Redis."""
    link: Link | None = getattr(_local, "link", None)
    if link is None or link.pid != os.getpid():
        link = _local.link = Link(PREDICT_DB)
    return link
