"""What /metrics says, read by Prometheus' own parser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference.connections import EVENTS_DB, redis_client
from inference.metrics import counting, exposition
from inference.metrics.flushing import GONE_SECONDS, PROCESSES_KEY, Flusher

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Exposed:
    """Samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.kinds: dict[str, str] = {}
        self.values: Values = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation, f"{family.name} has no HELP"
            self.kinds[family.name] = family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values, f"{key} twice"
                self.values[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; 0 if there is none."""
        return self.values.get((name, frozenset(labels.items())), 0)

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples that have these labels, among others."""
        wanted = set(labels.items())
        return sum(
            n for (each, having), n in self.values.items() if each == name and wanted <= having
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of all samples of a name."""
        return [dict(having) for each, having in self.values if each == name]


def exposed() -> Exposed:
    """Return what all processes counted."""
    return Exposed("\n".join(exposition.lines()) + "\n")


def counted() -> Exposed:
    """Carry away what this process counted, and return what all processes counted."""
    assert Flusher("unit").flush()
    return exposed()


def forget_counts() -> None:
    """Begin at zero."""
    client = redis_client(EVENTS_DB)
    for pattern in ("metrics:*", "live:*"):
        for key in client.scan_iter(pattern):
            client.delete(key)
    counting.forget()


def await_flushes() -> None:
    """Wait until every living process has told what it counted until now, or is known as gone."""
    client = redis_client(EVENTS_DB)
    asked_at = time.time()

    def is_told() -> bool:
        now = time.time()
        found: Any = client.zrange(PROCESSES_KEY, 0, -1, withscores=True)
        return all(at > asked_at or at < now - GONE_SECONDS for _, at in found)

    while not is_told():
        client.blpop(["nothing"], timeout=0.05)


@pytest.fixture
def counts() -> Iterator[None]:
    """Nothing was counted before."""
    await_flushes()
    forget_counts()
    yield
    forget_counts()
