"""Live figures as pages and the API show them: how fast, how reliable, how busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from inference.metrics import live
from inference.metrics.live import Figures, Series

Point = list[float | int | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """One series as a page shows it.

    Attributes:
        chart: (Unix time in seconds, p50 ms, p95 ms, calls, failed) for each minute or hour.
        rows: (beginning, figures) of those in which something happened, newest first.
    """

    span: str
    total: Figures
    chart: Sequence[Point]
    rows: Sequence[tuple[datetime, Figures]]
    is_known: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing was called."""
        return not self.rows

    @property
    def is_hour(self) -> bool:
        """Whether it is the last hour, by minutes; else the last day, by hours."""
        return self.span == live.HOUR


def span_of(text: str | None) -> str:
    """Return the span that an address asks for; nonsense means the last hour."""
    return text if text in live.SPANS else live.HOUR


def shown(series: Series) -> Shown:
    """Prepare a series for a page."""
    rows = [
        (datetime.fromtimestamp(at, UTC), figures)
        for at, figures in reversed(series.points)
        if figures.calls or figures.refused
    ]
    chart = [_point(at, figures) for at, figures in series.points]
    return Shown(series.span, series.total, chart, rows, series.is_known)


def _point(at: int, figures: Figures) -> Point:
    return [at, _ms(figures.p50_us), _ms(figures.p95_us), figures.calls, figures.failed]


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 1)


@dataclass(frozen=True, slots=True)
class Line:
    """One model in a table of models."""

    path: str
    total: Figures

    @property
    def owner(self) -> str:
        """The organization it belongs to."""
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """Its name."""
        return self.path.partition("/")[2]


def by_model(span: str, organization_id: int | None = None) -> list[Line]:
    """Return the models called in a span, most called first.

    Args:
        organization_id: Only its own calls; None: everybody's.
    """
    paths = live.models_of(organization_id)
    if organization_id is None:
        names = [live.model_series(path) for path in paths]
    else:
        names = [live.organization_series(organization_id, path) for path in paths]
    totals = [series.total for series in live.read_many(names, span)]
    found = [
        Line(path, total)
        for path, total in zip(paths, totals, strict=True)
        if total.calls or total.refused
    ]
    return sorted(found, key=lambda line: (-line.total.calls, line.path))


def as_json(series: Series) -> dict[str, Any]:
    """Return what the API says of a series; times in milliseconds, unknown ones null."""
    return {
        "span": series.span,
        "total": _figures_json(series.total),
        "points": [
            {"at": datetime.fromtimestamp(at, UTC), **_figures_json(figures)}
            for at, figures in series.points
        ],
    }


def _figures_json(figures: Figures) -> dict[str, Any]:
    calls = figures.calls
    return {
        "calls": calls,
        "succeeded": figures.succeeded,
        "failed": figures.failed,
        "refused": figures.refused,
        "success_rate": round(figures.succeeded / calls, 4) if calls else None,
        "p50_ms": _ms(figures.p50_us),
        "p95_ms": _ms(figures.p95_us),
    }
