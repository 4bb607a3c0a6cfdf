"""Percentiles and success of the last hour and day, for pages: of a model, a tenant, the site.

They are about calls that somebody waits for: a prediction that is to run later, or a row of a batch
file, says by its time how long it lay, and would hide how fast a model is.

Every call falls into a bucket of time, by minute and by hour. Histograms add up, so what all
processes saw is right, and a page reads two hashes however many calls there were. A percentile
is the middle of its bucket, at most 4 % from the true one. Nothing here is money.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import redis

from inference.connections import EVENTS_DB, redis_client
from inference.metrics import families
from inference.metrics.tally import FAULTS, LIVE_BOUNDS, Tally

HOUR, DAY = "hour", "day"
SPANS = (HOUR, DAY)
_POINTS = {HOUR: 60, DAY: 24}
# Minutes of a point; points of a key; seconds a key lives after its last addition.
_SHAPES = {HOUR: (1, 60, 2 * 3600 + 600), DAY: (60, 24, 50 * 3600)}
SITE_SERIES = "all"
MOST_MODELS = 50

_WAITED_FOR = frozenset({families.SYNC, families.TEXT})

Group = tuple[str, int, dict[str, int]]


def model_series(path: str) -> str:
    """The calls of a model (`owner/name`), whoever made them."""
    return f"model:{path}"


def organization_series(organization_id: int, path: str = "") -> str:
    """The calls that an organization made: all, or of one model."""
    return f"org:{organization_id}:{path}" if path else f"org:{organization_id}"


def groups(tally: Tally) -> tuple[list[Group], list[tuple[str, str]]]:
    """Turn what a process counted into what Redis adds.

    Returns:
        (key, seconds to live, field → n) for each hash; (key, member) for the lists of models.
    """
    found: dict[str, Group] = {}
    members: set[tuple[str, str]] = set()
    for series, minute, what, n in _parts(tally):
        members |= set(_members(series))
        for span in SPANS:
            size, points, ttl = _SHAPES[span]
            number = minute // size
            key = _key(span, series, number // points)
            added = found.setdefault(key, (key, ttl, {}))[2]
            name = f"{number % points}:{what}"
            added[name] = added.get(name, 0) + n
    return list(found.values()), sorted(members)


def _parts(tally: Tally) -> Iterator[tuple[str, int, str, int]]:
    """Return (series, minute, what, how many)."""
    for (minute, model, organization_id, kind, outcome, bucket), (n, _, _) in tally.calls.items():
        if kind not in _WAITED_FOR:
            continue
        refused = "failed" if outcome in FAULTS else "refused"
        what = f"b{bucket}" if bucket >= 0 else refused
        yield SITE_SERIES, minute, what, n
        yield model_series(model), minute, what, n
        yield organization_series(organization_id), minute, what, n
        yield organization_series(organization_id, model), minute, what, n
    for (minute, model), (batches, rows) in tally.batches.items():
        for series in (SITE_SERIES, model_series(model)):
            yield series, minute, "batches", batches
            yield series, minute, "rows", rows


def _members(series: str) -> Iterable[tuple[str, str]]:
    kind, _, rest = series.partition(":")
    if kind == "model":
        yield "live:models", rest
    elif kind == "org":
        organization, _, path = rest.partition(":")
        if path:
            yield f"live:org:{organization}", path


def _key(span: str, series: str, number: int) -> str:
    return f"live:{span}:{series}:{number}"


@dataclass(slots=True)
class Figures:
    """What happened in some time.

    Attributes:
        buckets: Number of the bucket of LIVE_BOUNDS → succeeded calls.
        failed: Calls that failed by the model's or the platform's fault.
        refused: Calls that were not run by the caller's: no money, input that does not fit.
    """

    buckets: dict[int, int] = field(default_factory=dict)
    failed: int = 0
    refused: int = 0
    batches: int = 0
    rows: int = 0

    @property
    def succeeded(self) -> int:
        """Calls that were answered."""
        return sum(self.buckets.values())

    @property
    def calls(self) -> int:
        """Calls that were run."""
        return self.succeeded + self.failed

    @property
    def success_permyriad(self) -> int | None:
        """The part of the run calls that succeeded, in 1/100 of a percent; None before any."""
        return self.succeeded * 10_000 // self.calls if self.calls else None

    @property
    def p50_us(self) -> int | None:
        """The median time of succeeded calls."""
        return self.percentile(50)

    @property
    def p95_us(self) -> int | None:
        """The time that 95 of 100 succeeded calls did not exceed."""
        return self.percentile(95)

    @property
    def rows_per_batch(self) -> float | None:
        """Rows of a batch on average."""
        return self.rows / self.batches if self.batches else None

    def percentile(self, percent: int) -> int | None:
        """Return a percentile of succeeded calls' times in microseconds; None before any."""
        rank = -(-self.succeeded * percent // 100)
        if not rank:
            return None
        seen = 0
        for number in sorted(self.buckets):
            seen += self.buckets[number]
            if seen >= rank:
                return _middle(number)
        raise AssertionError("ranks are within the sum")

    def add(self, what: str, n: int) -> None:
        """Add what a field says."""
        if what.startswith("b") and what[1:].isdecimal():
            number = int(what[1:])
            self.buckets[number] = self.buckets.get(number, 0) + n
        elif what in {"failed", "refused", "batches", "rows"}:
            setattr(self, what, getattr(self, what) + n)

    def merge(self, other: Figures) -> None:
        """Add other figures."""
        for number, n in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + n
        self.failed += other.failed
        self.refused += other.refused
        self.batches += other.batches
        self.rows += other.rows


def _middle(number: int) -> int:
    if number >= len(LIVE_BOUNDS):
        return LIVE_BOUNDS[-1]
    low = LIVE_BOUNDS[number - 1] if number else 0
    return (low + LIVE_BOUNDS[number]) // 2


@dataclass(frozen=True, slots=True)
class Series:
    """Figures over time, oldest first, also where nothing happened.

    Attributes:
        points: (beginning as a Unix time in seconds, figures) per minute or hour.
        is_known: False if Redis could not be asked.
    """

    span: str
    points: Sequence[tuple[int, Figures]]
    is_known: bool = True

    @property
    def total(self) -> Figures:
        """All of it."""
        found = Figures()
        for _, figures in self.points:
            found.merge(figures)
        return found

    @property
    def seconds(self) -> int:
        """How much time it covers."""
        return _POINTS[self.span] * _SHAPES[self.span][0] * 60


def read(series: str, span: str) -> Series:
    """Return the figures of one series over the last hour or day."""
    return read_many([series], span)[0]


def read_many(names: Sequence[str], span: str) -> list[Series]:
    """Return the figures of several series; one round trip for all."""
    size, points, _ = _SHAPES[span]
    last = int(time.time()) // 60 // size
    wanted = range(last - _POINTS[span] + 1, last + 1)
    numbers = sorted({number // points for number in wanted})
    pipeline = redis_client(EVENTS_DB).pipeline(transaction=False)
    for name in names:
        for number in numbers:
            pipeline.hgetall(_key(span, name, number))
    try:
        answers = pipeline.execute() if names else []
    except redis.RedisError:
        return [_series(span, wanted, {}, is_known=False) for _ in names]
    each = len(numbers)
    return [
        _series(span, wanted, _placed(numbers, answers[at * each : (at + 1) * each], points))
        for at in range(len(names))
    ]


def _placed(
    numbers: Sequence[int], answers: Sequence[Mapping[bytes, bytes]], points: int
) -> dict[int, Figures]:
    found: dict[int, Figures] = {}
    for number, fields in zip(numbers, answers, strict=True):
        for name, n in fields.items():
            place, _, what = name.decode().partition(":")
            found.setdefault(number * points + int(place), Figures()).add(what, int(n))
    return found


def _series(
    span: str, wanted: Iterable[int], found: Mapping[int, Figures], *, is_known: bool = True
) -> Series:
    seconds = _SHAPES[span][0] * 60
    return Series(span, [(at * seconds, found.get(at) or Figures()) for at in wanted], is_known)


def models_of(organization_id: int | None = None) -> list[str]:
    """Return the models called in the last day, by an organization or by anybody.

    Those called last come first; at most MOST_MODELS.
    """
    key = "live:models" if organization_id is None else f"live:org:{organization_id}"
    since = int(time.time()) - 86_400
    try:
        names = redis_client(EVENTS_DB).zrevrangebyscore(key, "+inf", since, 0, MOST_MODELS)
    except redis.RedisError:
        return []
    return [name.decode() for name in names]  # type: ignore[union-attr]  # bytes: nothing is decoded
