"""What all processes counted, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack
import redis

from inference.connections import EVENTS_DB, redis_client
from inference.metrics import families, tally
from inference.metrics.families import Family
from inference.metrics.flushing import GONE_SECONDS, PROCESSES_KEY, SITE_KEY, gauges_key

# Labels' names and values → number.
Samples = list[tuple[dict[str, str], float]]
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def lines() -> list[str]:
    """Return all families that have samples, and the gauges of the processes that live.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    client = redis_client(EVENTS_DB)
    counted = _counted(client)
    found: list[str] = []
    for family in families.ALL:
        found += _family(family, counted.get(family.name, {}))
    for name, samples in gauges().items():
        found += gauge_lines(name, families.GAUGES[name].text, samples)
    return found


def gauge_lines(name: str, text: str, samples: Samples) -> list[str]:
    """Return the lines of one gauge."""
    return [
        *(f"# HELP {name} {text}", f"# TYPE {name} gauge"),
        *(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples),
    ]


# Labels → bucket or "" → sum.
Counted = dict[tuple[str, ...], dict[str, int]]


def _counted(client: redis.Redis) -> dict[str, Counted]:
    found: dict[str, Counted] = {}
    _sort(found, (), client.hgetall(SITE_KEY))
    for scope in (tally.MODEL, tally.WORKER):
        names = [name.decode() for name in client.zrange(f"metrics:{scope}s", 0, -1)]  # type: ignore[union-attr]  # bytes
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(f"metrics:{scope}:{name}")
        for name, fields in zip(names, pipeline.execute(), strict=True):
            _sort(found, (name,), fields)
    return found


def _sort(found: dict[str, Counted], first: tuple[str, ...], fields: Any) -> None:
    for key, n in fields.items():
        name, *rest = tally.split(key.decode())
        family = families.BY_NAME.get(name)
        if family is None:
            continue
        # Of an older release: what it counted otherwise is left out.
        bucket = rest.pop() if family.bounds and rest else ""
        labels = (*first, *rest)
        if len(labels) == len(family.labels):
            found.setdefault(name, {}).setdefault(labels, {})[bucket] = int(n)


def _family(family: Family, counted: Counted) -> Iterable[str]:
    if not counted:
        return
    kind = "histogram" if family.bounds else "counter"
    yield f"# HELP {family.name} {family.text}"
    yield f"# TYPE {family.name} {kind}"
    for values, sums in sorted(counted.items()):
        labels = dict(zip(family.labels, values, strict=True))
        if family.bounds:
            yield from _histogram(family, labels, sums)
        else:
            yield f"{family.name}{_labels(labels)} {sums['']}"


def _histogram(family: Family, labels: dict[str, str], sums: Mapping[str, int]) -> Iterable[str]:
    total = 0
    for number in range(len(family.bounds) + 1):
        total += sums.get(str(number), 0)
        is_last = number == len(family.bounds)
        bound = "+Inf" if is_last else _number(family.bounds[number] / family.scale)
        yield f"{family.name}_bucket{_labels(labels | {'le': bound})} {total}"
    yield f"{family.name}_sum{_labels(labels)} {_number(sums.get('sum', 0) / family.scale)}"
    yield f"{family.name}_count{_labels(labels)} {total}"


def gauges() -> dict[str, Samples]:
    """Return what the processes that live tell of themselves, by metric.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    client = redis_client(EVENTS_DB)
    since = int(time.time()) - GONE_SECONDS
    names = client.zrangebyscore(PROCESSES_KEY, since, "+inf")
    keys = [gauges_key(name.decode()) for name in names]  # type: ignore[union-attr]  # bytes
    summed: dict[str, dict[tuple[str, ...], float]] = {}
    for packed in client.mget(keys) if keys else []:
        for name, values, value in msgpack.unpackb(packed) if packed else []:
            _combine(summed, name, tuple(values), value)
    return {
        name: [
            (dict(zip(families.GAUGES[name].labels, labels, strict=True)), value)
            for labels, value in sorted(found.items())
        ]
        for name, found in summed.items()
    }


def _combine(
    summed: dict[str, dict[tuple[str, ...], float]],
    name: str,
    labels: tuple[str, ...],
    value: float,
) -> None:
    gauge = families.GAUGES.get(name)
    if gauge is not None and len(labels) == len(gauge.labels):
        found = summed.setdefault(name, {})
        before = found.get(labels, 0)
        found[labels] = before + value if gauge.is_sum else max(before, value)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""
