"""Waiting for the turn to write before it is decided what is written."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from django.db import DEFAULT_DB_ALIAS, connections

from accounts.sqlite.base import DatabaseWrapper


def turn() -> AbstractContextManager[None]:
    """Wait until this thread may write, where one may at a time: on SQLite.

    The turn ends with the first transaction inside, or else with the block.

    Raises:
        OperationalError: It did not come in time.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    return wrapper.turn() if isinstance(wrapper, DatabaseWrapper) else nullcontext()
