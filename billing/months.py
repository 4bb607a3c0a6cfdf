"""Months as they are billed: UTC, from the first midnight until before the next."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def of(instant: datetime) -> date:
    """Return the first day of the month that an instant is in, whatever its time zone."""
    return instant.astimezone(UTC).date().replace(day=1)


def following(month: date) -> date:
    """Return the first day of the next month."""
    return (month + timedelta(days=31)).replace(day=1)


def start(month: date) -> datetime:
    """Return the first instant of a month."""
    return datetime.combine(month, time.min, tzinfo=UTC)


def end(month: date) -> datetime:
    """Return the first instant after a month."""
    return start(following(month))


def hour_of(instant: datetime) -> datetime:
    """Return the beginning of the hour that an instant is in, UTC."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
