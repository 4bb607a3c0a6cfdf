"""Django's backend for SQLite, whose transactions wait for their turn before they begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

from accounts.sqlite.turns import Turn, turn_of


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection; a single statement outside of a transaction takes no turn."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turn: Turn | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn now; it ends with the first transaction, or else with the block.

        Raises:
            OperationalError: It did not come in time.
        """
        self._take_turn()
        try:
            yield
        finally:
            self._end_turn()

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Let transactions inside commit without waiting for the disk; not inside of one.

        The log stays in order: once a later commit is on the disk, so is everything before it.

        Source:
            https://www.sqlite.org/pragma.html#pragma_synchronous
        """
        self.ensure_connection()
        self.connection.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            # A connection that was lost in between begins as the settings say.
            if self.connection is not None:
                self.connection.execute("PRAGMA synchronous=FULL")

    # The types of Django that are checked do not have these methods.

    def _start_transaction_under_autocommit(self) -> None:
        self._take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._end_turn()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._end_turn()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _take_turn(self) -> None:
        if self._turn is not None or self.is_in_memory_db():
            return
        turn = turn_of(str(self.settings_dict["NAME"]))
        if not turn.take(self.settings_dict["OPTIONS"].get("timeout", 5.0)):
            raise OperationalError("database is locked")
        self._turn = turn

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give()
