"""What happens to predictions, told to those who watch; the row is the truth for all others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from inference import streams
from inference.asynchronous import snapshots
from inference.models import Prediction


def tell(predictions: Sequence[Prediction]) -> None:
    """Tell who watches that these have the status they have now."""
    streams.publish(
        [
            (SOURCE.key(one.pk), "status", {"id": str(one.pk), "status": one.status})
            for one in predictions
        ],
        rings=sorted({list_key(one.organization_id) for one in predictions}),
    )


def tell_starting(predictions: Sequence[Prediction], milliseconds: int) -> None:
    """Tell who watches that a worker loads the model of these, and how long that will take."""
    ready_in = {"ready_in_seconds": milliseconds / 1000}
    streams.publish(
        [(SOURCE.key(one.pk), "starting", {"id": str(one.pk)} | ready_in) for one in predictions]
    )


def list_key(organization_id: int) -> str:
    """Return what is rung when any prediction of an organization changes."""
    return f"predictions:{organization_id}"


def _read(prediction_id: UUID) -> dict[str, Any]:
    return snapshots.as_json(Prediction.objects.with_version().get(pk=prediction_id))


def _ended(ids: Collection[UUID]) -> set[UUID]:
    """Return which have ended, or are forgotten already."""
    open_ones = (
        Prediction.objects.filter(pk__in=ids)
        .exclude(status__in=Prediction.TERMINAL)
        .values_list("pk", flat=True)
    )
    return set(ids) - set(open_ones)


SOURCE = streams.Source("prediction", _read, _ended)
