"""Rings: something changed about a batch file. Who watches then reads the row."""

from __future__ import annotations

from uuid import UUID

from inference import streams

KIND = "batch"


def ring(batch_id: UUID) -> None:
    """Tell those who watch that something changed, perhaps that the file has ended."""
    # Not what changed: that is many sums over its chunks, which only watchers need.
    streams.publish([(streams.key_of(KIND, batch_id), "state", {})])
