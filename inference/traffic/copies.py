"""Copies of answered calls on their way from a gateway to a worker, over Redis.

They are a statistic, not work that somebody waits for: the newest few are kept, for a minute.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from inference.link import Command, predict_link
from inference.runtime.sessions import Arrays
from inference.wire import pack_arrays, unpack_arrays

# The task that makes a worker look; its argument is the shadow's id.
TASK = "inference.run_copies"
# Of one shadow, so much waits at most: with what a batch has at most, 32 MiB.
MAX_BATCHES = 32
MAX_BYTES = 1024 * 1024
KEEP_SECONDS = 60


class Copy(NamedTuple):
    """One of several calls: how many rows it had, and how the batch it ran in went.

    Attributes:
        run_us: How long the model took for the whole batch, in microseconds.
    """

    rows: int
    run_us: int
    batch_rows: int


class Copies(NamedTuple):
    """Calls that were answered together: what went in, and what their callers got."""

    calls: list[Copy]
    inputs: Arrays
    outputs: Arrays


def key(shadow_id: int) -> str:
    """Where a shadow's copies lie, by when they were put there."""
    return f"copies:{shadow_id}"


def pack(copies: Copies) -> bytes:
    """Write copies; what is the same twice is still two."""
    packed: bytes = msgpack.packb(
        (
            secrets.token_bytes(8),
            copies.calls,
            pack_arrays(copies.inputs),
            pack_arrays(copies.outputs),
        )
    )
    return packed


def unpack(data: bytes) -> Copies:
    """Read copies.

    Raises:
        ValueError: They are none.
    """
    _, calls, inputs, outputs = msgpack.unpackb(data)
    return Copies([Copy(*one) for one in calls], unpack_arrays(inputs), unpack_arrays(outputs))


def put(shadow_id: int, batches: Sequence[bytes]) -> int:
    """Add packed copies in one round trip; the oldest make room. Returns how many of them did.

    Raises:
        RedisError: They may not be there.
    """
    now, where = time.time(), key(shadow_id)
    scored: list[Any] = [part for packed in batches for part in (now, packed)]
    commands: list[Command] = [
        ("ZADD", where, *scored),
        ("ZREMRANGEBYSCORE", where, "-inf", now - KEEP_SECONDS),
        ("ZREMRANGEBYRANK", where, 0, -MAX_BATCHES - 1),
        ("EXPIRE", where, KEEP_SECONDS),
    ]
    _, late, too_many, _ = predict_link().ask(*commands)
    return int(late) + int(too_many)


def take(shadow_id: int) -> Copies | None:
    """Take the oldest copies; None if there are none.

    Raises:
        RedisError: Redis does not answer.
        ValueError: They cannot be read; they are taken all the same.
    """
    [found] = predict_link().ask(("ZPOPMIN", key(shadow_id)))
    return unpack(found[0]) if found else None


def forget(shadow_id: int) -> None:
    """Throw away what waits.

    Raises:
        RedisError: Redis does not answer.
    """
    predict_link().ask(("UNLINK", key(shadow_id)))
