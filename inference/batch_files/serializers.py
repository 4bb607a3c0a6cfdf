"""What the API says of batch files."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing.api.prices import percent_text
from billing.money import decimal_text
from inference.models import BatchFile


class BatchRequestSerializer(serializers.Serializer[object]):
    """A file with rows of one model, as multipart/form-data."""

    file = serializers.FileField(
        help_text="JSONL with input per line, or CSV with a column per input; of a model that "
        "writes text prompt, max_tokens, temperature, top_p, seed and stop."
    )
    model = serializers.CharField(help_text="owner/name or owner/name:version")
    format = serializers.ChoiceField(choices=BatchFile.Format.choices, required=False)
    start = serializers.BooleanField(required=False, help_text="Start as soon as it is checked.")
    skip_invalid = serializers.BooleanField(required=False)
    when_refused = serializers.ChoiceField(choices=BatchFile.WhenRefused.choices, required=False)
    max_cost = serializers.CharField(required=False, help_text="The most it may cost.")


class BatchStartSerializer(serializers.Serializer[object]):
    """What is said when a file is started."""

    max_cost = serializers.CharField(required=False, help_text="The most it may cost.")


class _UploadSerializer(serializers.Serializer[object]):
    name = serializers.CharField()
    format = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class _CountsSerializer(serializers.Serializer[object]):
    rows = serializers.IntegerField()
    invalid = serializers.IntegerField()
    done = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()


class _EstimateSerializer(serializers.Serializer[object]):
    amount = serializers.CharField()
    currency = serializers.CharField()
    price_version = serializers.IntegerField()
    batch_discount = serializers.CharField(help_text="Percent of the price of a call.")


class _RowErrorSerializer(serializers.Serializer[object]):
    line = serializers.IntegerField()
    row = serializers.IntegerField()
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class _ReasonSerializer(serializers.Serializer[object]):
    code = serializers.CharField()
    message = serializers.CharField()


class _CostSerializer(serializers.Serializer[object]):
    amount = serializers.CharField()
    currency = serializers.CharField()


class BatchSerializer(serializers.Serializer[object]):
    """A batch file."""

    id = serializers.UUIDField()
    object = serializers.CharField()
    model = serializers.CharField()
    status = serializers.ChoiceField(choices=BatchFile.Status.choices)
    file = _UploadSerializer()
    counts = _CountsSerializer()
    percent = serializers.IntegerField(help_text="Of the check while it is checked, then of rows.")
    estimate = _EstimateSerializer(allow_null=True)
    cost = _CostSerializer()
    max_cost = serializers.CharField(allow_null=True)
    row_errors = _RowErrorSerializer(many=True)
    error = _ReasonSerializer(allow_null=True)
    retry_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField()


class ListOfBatches(serializers.Serializer[object]):
    """A page of batch files."""

    object = serializers.CharField()
    data = BatchSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


def batch_json(batch: BatchFile, *, with_errors: bool = True) -> dict[str, Any]:
    """Return what the API says of a batch file that `listed` read."""
    sums = vars(batch)
    done, succeeded = sums["done_rows"], sums["succeeded_rows"]
    price = batch.price_version
    estimate = {
        "amount": decimal_text(batch.estimate_nanos),
        "currency": price.currency,
        "price_version": price.pk,
        "batch_discount": percent_text(price.batch_discount_bps),
    }
    return {
        "id": str(batch.pk),
        "object": "batch",
        "model": batch.model_version.path,
        "status": batch.status,
        "file": {
            "name": batch.name,
            "format": batch.format,
            "bytes": batch.size_bytes,
            "sha256": batch.sha256,
        },
        "counts": {
            "rows": batch.rows,
            "invalid": batch.invalid_rows,
            "done": done,
            "succeeded": succeeded,
            "failed": done - succeeded,
        },
        "percent": percent(batch),
        "estimate": None if batch.status == BatchFile.Status.CHECKING else estimate,
        "cost": {"amount": decimal_text(sums["cost_nanos"]), "currency": price.currency},
        "max_cost": None if batch.max_cost_nanos is None else decimal_text(batch.max_cost_nanos),
        "row_errors": batch.row_errors if with_errors else [],
        "error": {"code": batch.error_code, "message": batch.error_message}
        if batch.error_code
        else None,
        "retry_at": batch.retry_at if batch.status == BatchFile.Status.PAUSED else None,
        "created_at": batch.created_at,
        "started_at": batch.started_at,
        "finished_at": batch.finished_at,
        "expires_at": batch.expires_at,
    }


def percent(batch: BatchFile) -> int:
    """Return how much is done, in whole percent: of the check, and then of the rows."""
    if batch.status == BatchFile.Status.CHECKING:
        return batch.checked_bytes * 100 // max(batch.size_bytes, 1)
    done: int = vars(batch)["done_rows"]
    return done * 100 // max(batch.rows, 1)
