"""Reads that must agree with one another while others write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Let all reads inside see the database as it was at one instant; nothing may be written.

    Without it a check that reads holds and then budgets would see a settlement in one and not in
    the other. Nobody is kept waiting: on SQLite it is a read of the write-ahead log. Inside a
    transaction, as in a test, that transaction's own view has to do.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    else:
        # Not `atomic`: that takes the write lock, and the settler would wait for the checks.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
