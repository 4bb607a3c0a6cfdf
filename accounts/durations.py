"""Durations in the API: numbers of milliseconds, with decimals. They are no amounts of money."""

from __future__ import annotations

from rest_framework import serializers


def milliseconds(microseconds: int) -> float:
    """Return a stored duration as the API tells it."""
    return microseconds / 1000


class MillisecondsField(serializers.FloatField):
    """A number of milliseconds, with decimals."""
