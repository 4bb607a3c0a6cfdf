"""A plain connection to Redis for the path of every batch: many commands, one round trip.

redis-py's client spends 0.1 to 0.4 ms of CPU on each call (copies of its tables, retries,
attributes for metrics); a batch makes a dozen. Its connections, used directly, spend a tenth.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any

import redis

from inference.connections import PREDICT_DB, redis_client

Command = Sequence[str | bytes | int | float]
_local = threading.local()


class Link:
    """One thread's connection; not for several threads.

    Commands must bear being carried out twice: a connection that has died since the last use is
    opened again, once, and what nobody has read an answer to is sent again.
    """

    def __init__(self, db: int) -> None:
        self.pid = os.getpid()
        # redis-py does not say what its connections return.
        self._connection: Any = redis_client(db).connection_pool.make_connection()
        self._unread = 0
        self._posted: list[Command] = []
        self._ahead: Command | None = None

    def ask(self, *commands: Command, ahead: Command | None = None) -> list[Any]:
        """Send commands together and return their answers.

        Args:
            ahead: One more that is sent with them; `answer_to` fetches what it is answered.

        Raises:
            RedisError: No answer, or one of the answers is an error.
        """
        try:
            return self._ask(commands, ahead)
        except (redis.ConnectionError, redis.TimeoutError):
            return self._ask(commands, ahead)

    def answer_to(self, command: Command) -> Any:
        """Return the answer to a command, which may have been sent ahead.

        Raises:
            RedisError: No answer, or it is an error.
        """
        if command == self._ahead:
            self._ahead = None
            try:
                return self.read()
            except (redis.ConnectionError, redis.TimeoutError):
                pass
        return self.ask(command)[0]

    def post(self, *commands: Command) -> None:
        """Send commands whose answers nobody waits for: the next `ask` or `flush` reads them."""
        # What cannot be sent now is sent then.
        with contextlib.suppress(redis.RedisError):
            self.send(*commands)
        self._posted += commands

    def flush(self) -> None:
        """Wait until what was posted is carried out.

        Raises:
            RedisError: It is not, or one of the answers is an error.
        """
        if self._posted:
            self.ask()

    def _ask(self, commands: Sequence[Command], ahead: Command | None) -> list[Any]:
        self.send(*commands, *([ahead] if ahead else []))
        self._ahead = ahead
        self._read_posted()
        return [self.read() for _ in commands]

    def _read_posted(self) -> None:
        try:
            for _ in self._posted:
                self.read()
        except redis.ResponseError:
            # It would be refused again.
            self._posted.clear()
            raise
        self._posted.clear()

    def send(self, *commands: Command) -> None:
        """Send commands whose answers are fetched by as many calls of `read`.

        Raises:
            RedisError: They cannot be sent.
        """
        if self._unread != len(self._posted):
            # A caller gave up in between: what is still on its way belongs to nobody.
            self.close()
            commands = (*self._posted, *commands)
        self._unread += len(commands)
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
        self._ahead = None
        self._connection.disconnect()


def predict_link() -> Link:
    """Return this thread's connection to the predictions' Redis."""
    link: Link | None = getattr(_local, "link", None)
    if link is None or link.pid != os.getpid():
        link = _local.link = Link(PREDICT_DB)
    return link
