"""SQLite lets one write at a time: another one waits, and if that takes too long, is told so."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client

from accounts.models import Organization
from billing import promotions
from billing.money import NANOS
from tests.billing.prepaid import available
from tests.factories import make_key, make_user

# On SQLite only: on PostgreSQL a writer waits for rows.
pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def writer(organization: Organization) -> Iterator[sqlite3.Connection]:
    """Another process that is writing, and has not committed."""
    name = str(connection.settings_dict["NAME"])
    with closing(sqlite3.connect(name, isolation_level=None, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE accounts_organization SET name = 'Written meanwhile'")
        yield other


@pytest.fixture
def order(organization: Organization) -> dict[str, Any]:
    """A request that reads, and then gives an organization the credit of a code."""
    cache.clear()
    _, text = promotions.make_code(3 * NANOS, actor=make_user())
    _, secret = make_key(organization, scopes=["read", "billing"])
    return {
        "path": "/v1/redemptions",
        "data": json.dumps({"code": text}),
        "content_type": "application/json",
        "headers": {"Authorization": f"Bearer {secret}"},
    }


def test_a_request_waits_for_another_writer_and_then_succeeds(
    order: dict[str, Any], writer: sqlite3.Connection, organization: Organization
) -> None:
    """Regression 45: a transaction that had read before would not wait, but fail at once."""
    asks = threading.Event()

    def ask() -> Any:
        connection.ensure_connection()
        connection.connection.set_trace_callback(
            lambda statement: None if statement.startswith(("SELECT", "PRAGMA")) else asks.set()
        )
        try:
            return Client().post(**order)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(ask)
        assert asks.wait(30)
        assert not answering.done()
        writer.commit()
        answer = answering.result()

    assert answer.status_code == 201
    organization.refresh_from_db()
    assert organization.name == "Written meanwhile"
    assert available(organization) == 8 * NANOS


def test_who_would_wait_too_long_may_try_again(
    order: dict[str, Any], writer: sqlite3.Connection, organization: Organization
) -> None:
    """Regression 45: nothing is written, and the answer is the same as without a database."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 1")
    try:
        answer = Client().post(**order)
    finally:
        # The next one begins as the settings say.
        connection.close()
    writer.commit()
    again = Client().post(**order)

    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "overloaded"
    assert again.status_code == 201
    assert available(organization) == 8 * NANOS


def test_a_transaction_may_write_from_its_beginning(organization: Organization) -> None:
    """Regression 45: what it has read cannot be old when it writes: nobody else could."""
    name = str(connection.settings_dict["NAME"])
    with closing(sqlite3.connect(name, timeout=0)) as other, transaction.atomic():
        assert Organization.objects.get().pk == organization.pk
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
