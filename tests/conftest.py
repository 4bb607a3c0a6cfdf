"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError, connection, transaction
from django.db.backends.base.operations import BaseDatabaseOperations

from accounts import keys
from accounts.models import Organization
from billing import budgets, settlement, triggers
from billing.invariants import violations
from billing.stripe import client
from billing.stripe.fake import FakeStripe
from inference import loading, versions
from tests import factories
from tests.live import Site

_TRIES_TO_EMPTY = 10


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the running site, before marks choose what runs."""
    for item in items:
        if "_site" in getattr(item, "fixturenames", ()):
            item.add_marker("live")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Give each of several runs on one PostgreSQL a database of its own."""
    suffix = os.environ.get("TEST_DATABASE_SUFFIX")
    if suffix and connection.vendor == "postgresql":
        connection.settings_dict["TEST"]["NAME"] = (
            f"test_{connection.settings_dict['NAME']}_{suffix}"
        )


@pytest.fixture(autouse=True)
def _forget() -> None:
    """What a process remembers must not reach the next test, whose rows may have the same ids."""
    keys._cache.clear()
    budgets._cache.clear()
    versions._cache.clear()
    loading.signature_of.cache_clear()
    for version_id in loading.sessions.loaded():
        loading.sessions.unload(version_id)


@pytest.fixture(autouse=True)
def _plain_static(settings: Any) -> None:
    """Static files under their own names: nothing is collected for tests."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}


@pytest.fixture(scope="session", autouse=True)
def _emptying_without_guards() -> Iterator[None]:
    """Let tables be emptied between tests, also while the site's processes use them.

    On SQLite the guards forbid it, and `flush` puts them back; PostgreSQL asks none when it
    truncates, but locks all tables one after another, and a process that holds one of them and
    wants another is a deadlock, which it ends at the cost of either.
    """
    emptying = BaseDatabaseOperations.execute_sql_flush

    def without_guards(self: Any, statements: list[str]) -> None:
        if self.connection.vendor == "sqlite":
            with transaction.atomic(), self.connection.cursor() as cursor:
                triggers.drop(self.connection, cursor)
                emptying(self, statements)
        else:
            for left in reversed(range(_TRIES_TO_EMPTY)):
                try:
                    emptying(self, statements)
                    break
                except OperationalError:
                    if not left:
                        raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", without_guards)
        yield


@pytest.fixture
def books(db: None) -> Iterator[None]:
    """Prove the books when the test has ended."""
    yield
    settlement.settle()
    assert violations() == []


@pytest.fixture
def organization(db: None) -> Organization:
    """An organization with five dollars."""
    return factories.make_organization()


@pytest.fixture
def fake_stripe(settings: Any, tmp_path: Path) -> Iterator[FakeStripe]:
    """What stands for Stripe, new and empty: `people` act on it, `post` carries its webhooks."""
    settings.FAKE_STRIPE_FILE = tmp_path / "fake-stripe.sqlite3"
    fake = client.fake()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def _site(django_db_setup: None, django_db_blocker: object) -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture
def site(transactional_db: None, _site: Site) -> Iterator[Site]:
    """The site over HTTP: real gateway, real worker, real Valkey; then the books are proved."""
    cache.clear()
    _site.start()
    yield _site
    _site.keep_workers()
    _site.settle()
    assert violations() == []


Expect = Callable[..., None]
