"""How a transaction is begun and committed where that costs more than what it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from accounts.sqlite.base import DatabaseWrapper


def turn() -> AbstractContextManager[None]:
    """Wait until this thread may write, where one may at a time: on SQLite.

    The turn ends with the first transaction inside, or else with the block.

    Raises:
        OperationalError: It did not come in time.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    return wrapper.turn() if isinstance(wrapper, DatabaseWrapper) else nullcontext()


@contextmanager
def unsynced() -> Iterator[None]:
    """Begin a transaction whose commit does not wait for the disk.

    Whoever dies, what is committed stays; only when the machine of the database loses its power,
    or PostgreSQL itself crashes, may the last moments be missing. Never in part, and never without
    what came after them: a later commit that waits takes all before it along. So this is for what
    nobody relies on until a later transaction has said so. Inside another transaction it is a part
    of that one.

    Source:
        https://www.postgresql.org/docs/current/wal-async-commit.html
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.in_atomic_block:
        with transaction.atomic():
            yield
    elif isinstance(wrapper, DatabaseWrapper):
        with wrapper.unsynced(), transaction.atomic():
            yield
    else:
        with transaction.atomic(), wrapper.execute_wrapper(_Unsynced()):
            yield


class _Unsynced:
    """Says it with the first statement inside: alone it would be one more round trip."""

    def __init__(self) -> None:
        self._said = False

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if not self._said:
            self._said, sql = True, f"SET LOCAL synchronous_commit TO off; {sql}"
        return execute(sql, params, many, context)
