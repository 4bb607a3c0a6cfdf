"""What predict workers say of themselves, in Redis: to gateways, and to each other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgpack
import redis
from kombu import Exchange, Queue

from inference.labels import satisfy
from inference.wire import HEARTBEAT_EXPIRY_MS, heartbeat_key

# Duties that an operator gives, and what a worker that drains says until nothing is left.
ACTIVE, CORDONED, DRAINING, DRAINED = "active", "cordoned", "draining", "drained"
_QUEUE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Member:
    """One predict worker.

    Attributes:
        starting: Version → for how many milliseconds it has been waited for.
        waiting: Messages that it has not begun.
        running: Batches that it runs.
    """

    name: str
    duty: str = ACTIVE
    labels: dict[str, str] = field(default_factory=dict)
    loaded: frozenset[int] = frozenset()
    starting: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0

    @property
    def serves(self) -> bool:
        """Whether it takes batches of what it has loaded."""
        return self.duty in {ACTIVE, CORDONED}

    def has(self, labels: dict[str, str]) -> bool:
        """Whether it may run what needs these labels."""
        return satisfy(self.labels, labels)


def members_key(pool: str) -> str:
    """The names of a pool's workers, by when each was heard last."""
    return f"workers:{pool}"


def duty_key(worker: str) -> str:
    """Rings when an operator has given a worker another duty, or an order."""
    return f"duty:{worker}"


def queue_of(worker: str) -> str:
    """The queue that one worker alone takes from."""
    return f"predict.w.{worker}"


def name_of(node: str) -> str:
    """Return the name of this process; a node has one process at a time."""
    return f"{node}:{os.getpid()}"


@lru_cache(maxsize=256)
def worker_queue(name: str) -> Queue:
    """Return how a worker's queue is declared: it goes a while after its worker has gone."""
    queue = queue_of(name)
    return Queue(queue, Exchange(queue), queue, expires=_QUEUE_SECONDS)


def shared_queue(pool: str) -> str:
    """The queue that all workers of a pool take from."""
    return f"predict.{pool}"


def pack(member: Member) -> bytes:
    """Write what a worker says."""
    packed: bytes = msgpack.packb(
        (
            member.name,
            member.duty,
            member.labels,
            sorted(member.loaded),
            member.starting,
            member.waiting,
            member.running,
        )
    )
    return packed


def unpack(data: bytes) -> Member:
    """Read what a worker says.

    Raises:
        ValueError: It is not that.
    """
    name, duty, labels, loaded, starting, waiting, running = msgpack.unpackb(
        data, strict_map_key=False
    )
    return Member(name, duty, labels, frozenset(loaded), starting, waiting, running)


def tell(pipeline: redis.client.Pipeline, pool: str, member: Member) -> None:
    """Say that a worker lives, and how."""
    pipeline.set(heartbeat_key(member.name), pack(member), px=HEARTBEAT_EXPIRY_MS)
    pipeline.zadd(members_key(pool), {member.name: int(time.time())})


def read(client: redis.Redis, pool: str) -> list[Member]:
    """Return the living workers of a pool."""
    return [member for member in _read(client, pool).values() if member is not None]


def dead(client: redis.Redis, pool: str) -> list[str]:
    """Return the names of workers that have died and whose queues nobody has looked after."""
    return [name for name, member in _read(client, pool).items() if member is None]


def _read(client: redis.Redis, pool: str) -> dict[str, Member | None]:
    found: Any = client.zrange(members_key(pool), 0, -1)
    names = [name.decode() for name in found]
    if not names:
        return {}
    values: Any = client.mget([heartbeat_key(name) for name in names])
    return {
        name: unpack(value) if value else None for name, value in zip(names, values, strict=True)
    }


def forget(client: redis.Redis, pool: str, worker: str) -> None:
    """Leave a worker out from now on."""
    client.zrem(members_key(pool), worker)


def ranked(version_id: int, members: Sequence[Member], salt: str = "") -> list[Member]:
    """Order workers for a version (rendezvous hash): the order hardly changes when one goes."""
    return sorted(members, key=lambda member: _weight(version_id, member.name, salt))


def _weight(version_id: int, name: str, salt: str) -> bytes:
    return blake2b(f"{version_id}\0{name}\0{salt}".encode(), digest_size=8).digest()
