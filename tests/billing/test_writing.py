"""What a commit waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import connection, transaction

from billing import writing
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _usual(db: None) -> Iterator[None]:
    """Tests of the site run without, where nothing but speed depends on it."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        (before,) = cursor.fetchone()
        cursor.execute("SET synchronous_commit TO on")
        yield
        cursor.execute(f"SET synchronous_commit TO {before}")


def is_synced() -> bool:
    """Whether a commit of this connection waits for the disk, as things are."""
    asks = "SHOW synchronous_commit" if connection.vendor == "postgresql" else "PRAGMA synchronous"
    with connection.cursor() as cursor:
        cursor.execute(asks)
        (found,) = cursor.fetchone()
    return found in {"on", 2}


def test_only_the_transaction_inside_does_not_wait() -> None:
    assert is_synced()
    with writing.unsynced():
        assert not is_synced()
        factories.make_organization()
    assert is_synced()


def test_after_an_error_the_next_one_waits_again() -> None:
    with suppress(ValueError), writing.unsynced():
        raise ValueError
    assert is_synced()


def test_a_part_of_another_transaction_waits_with_it() -> None:
    with transaction.atomic():
        with writing.unsynced():
            assert is_synced()
        assert is_synced()
