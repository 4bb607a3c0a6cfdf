"""Rows of canaries, shadows, batch files and limits, for the console's pages."""

from __future__ import annotations

from itertools import count

from django.utils import timezone

from billing import shares
from catalog import prices
from catalog.models import ModelVersion
from inference.models import BatchFile, Canary, LimiterOutage, Shadow, VersionAlias

_NUMBERS = count(1)


def make_traffic(version: ModelVersion) -> None:
    """Make a row of everything that says where calls of a version go."""
    now = timezone.now()
    Canary.objects.create(
        model=version.model,
        version=version,
        percent=5,
        max_error_percent=2,
        max_slowdown_percent=50,
        min_calls=100,
    )
    Shadow.objects.create(model=version.model, version=version, percent=5)
    VersionAlias.objects.create(model=version.model, name="stable", version=version)
    LimiterOutage.objects.create(
        process=f"gateway-{next(_NUMBERS)}", error="ConnectionError", started_at=now, seen_at=now
    )
    price = prices.current(version.model)
    assert price is not None
    BatchFile.objects.create(
        organization=version.model.owner,
        model_version=version,
        name="rows.jsonl",
        format=BatchFile.Format.JSONL,
        size_bytes=1,
        sha256="0" * 64,
        price_version=price,
        share_version=shares.current(version.model),
        estimate_nanos=7,
        expires_at=now,
    )
