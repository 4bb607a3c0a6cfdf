"""Webhooks of batch files, written in the transaction of what they tell."""

from __future__ import annotations

from uuid import UUID

from billing.money import decimal_text
from inference.models import BatchFile
from inference.webhooks import events


def ended(batch_id: UUID) -> None:
    """Tell that a file has succeeded or failed; once."""
    _emit(events.BATCH_ENDED, batch_id, f"{batch_id}:ended")


def paused(batch_id: UUID) -> None:
    """Tell that a file has been paused; each time."""
    batch = BatchFile.objects.listed().get(pk=batch_id)
    _emit(events.BATCH_PAUSED, batch_id, f"{batch_id}:paused:{batch.done_rows}")  # type: ignore[attr-defined]  # annotated


def _emit(kind: str, batch_id: UUID, event_id: str) -> None:
    batch = BatchFile.objects.listed().get(pk=batch_id)
    found = vars(batch)
    events.emit(
        batch.organization_id,
        kind,
        event_id,
        {
            "id": str(batch_id),
            "object": "batch",
            "model": batch.model_version.path,
            "status": batch.status,
            "rows": batch.rows,
            "done": found["done_rows"],
            "succeeded": found["succeeded_rows"],
            "cost": decimal_text(found["cost_nanos"]),
            "error": batch.error_code or None,
        },
        link=f"/console/batches/{batch_id}",
    )
