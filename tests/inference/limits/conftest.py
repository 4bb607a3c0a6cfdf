"""Fixtures of the limits' tests."""

from __future__ import annotations

import itertools

import pytest
import redis

from inference import limits
from inference.connections import CACHE_DB, redis_client

_owners = itertools.count(1)


@pytest.fixture(autouse=True)
def _forget_counts() -> None:
    """Rows of the next test may have the numbers of this one's."""
    client = redis_client(CACHE_DB)
    if keys := list(client.scan_iter("limits:*")):
        client.delete(*keys)
    limits._the_gate._closed.clear()


@pytest.fixture
def store() -> redis.Redis:
    """Where limits are counted."""
    return redis_client(CACHE_DB)


@pytest.fixture
def who() -> str:
    """Whose limits nobody else counts against."""
    return f"key:test{next(_owners)}"
