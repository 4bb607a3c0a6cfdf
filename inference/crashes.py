"""Keeps a model that kills its worker while it is loaded from doing so again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from inference.connections import PREDICT_DB, redis_client

# So many loads in a row may end with the death of the process.
MAX_DEATHS = 3
_REMEMBERED_SECONDS = 600
# What stays the same when this process is started again; one process has it at a time.
node = ""


class CrashingModelError(Exception):
    """Loads of this version have killed this worker too often in the last minutes."""


def loads_key(version_id: int) -> str:
    """Counts loads of a version that have begun and not ended, by node."""
    return f"loads:{version_id}"


@contextmanager
def watch(version_id: int) -> Iterator[None]:
    """Count a load that begins; a process that survives it takes the count back.

    Raises:
        CrashingModelError: Too many have not been taken back.
    """
    client, key = redis_client(PREDICT_DB), loads_key(version_id)
    begun = client.pipeline()
    begun.hincrby(key, node, 1)
    begun.expire(key, _REMEMBERED_SECONDS)
    deaths = begun.execute()[0] - 1
    try:
        if deaths >= MAX_DEATHS:
            raise CrashingModelError(f"Version {version_id} has killed {node} {deaths} times.")
        yield
    except BaseException:
        client.hincrby(key, node, -1)
        raise
    client.hdel(key, node)
