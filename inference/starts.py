"""How long versions take to be loaded: measured at each load, told to who has to wait."""

from __future__ import annotations

from django.db.models import F
from django.utils import timezone

from catalog.models import ModelVersion
from inference.models import VersionStart

# What a load took the last time counts for this much of the estimate.
_NEWEST = 0.5
# Before the first load of a version: what a runtime takes for any model, and per byte.
_GUESS_MS = {"onnx": 150, "tensorflow": 4000}
_GUESS_BYTES_PER_MS = 200_000


def record(version_id: int, start_ms: int, size_bytes: int) -> None:
    """Remember what a load took; two at once may count as one, which is near enough."""
    now = timezone.now()
    known = VersionStart.objects.filter(pk=version_id)
    earlier = known.values_list("start_ms", flat=True).first()
    if earlier is None:
        VersionStart.objects.bulk_create(
            [
                VersionStart(
                    version_id=version_id,
                    start_ms=start_ms,
                    size_bytes=size_bytes,
                    started_at=now,
                )
            ],
            ignore_conflicts=True,
        )
        return
    known.update(
        start_ms=round(_NEWEST * start_ms + (1 - _NEWEST) * earlier),
        size_bytes=size_bytes,
        starts=F("starts") + 1,
        started_at=now,
    )


def estimate_ms(version_id: int) -> int:
    """Return how long a load of a version will take: as before, or guessed from its size."""
    known = VersionStart.objects.filter(pk=version_id).values_list("start_ms", flat=True).first()
    if known is not None:
        return known
    runtime, size = ModelVersion.objects.values_list("runtime", "size_bytes").get(pk=version_id)
    return _GUESS_MS[runtime] + size // _GUESS_BYTES_PER_MS
