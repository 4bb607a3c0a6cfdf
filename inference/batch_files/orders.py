"""What people do with batch files: upload, start, cancel, delete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.errors import IdempotencyMismatchError, MercatoError
from accounts.keys import Caller
from billing.errors import CostCeilingError
from billing.ids import uuid7
from billing.money import decimal_text
from catalog.models import PriceVersion
from inference import versions
from inference.batch_files import doorbell, estimates, events, records, store
from inference.batch_files.errors import (
    BatchFormatError,
    BatchLimitError,
    BatchPriceChangedError,
    BatchStateError,
    from_file_error,
)
from inference.batch_files.records import FileError
from inference.models import BatchFile
from inference.versions import Served

Status = BatchFile.Status
MAX_OPEN = 20
_FORMATS = {
    ".jsonl": BatchFile.Format.JSONL,
    ".ndjson": BatchFile.Format.JSONL,
    ".csv": BatchFile.Format.CSV,
}


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants done with a file."""

    ref: str
    name: str
    format: str = ""
    starts_itself: bool = False
    skips_invalid: bool = False
    when_refused: str = BatchFile.WhenRefused.PAUSE
    max_cost_nanos: int | None = None
    idempotency_key: str = ""

    def fingerprint(self, sha256: str) -> str:
        """Return what tells two requests with one Idempotency-Key apart."""
        said = (
            *(self.ref, self.name, self.format, self.starts_itself, self.skips_invalid),
            *(self.when_refused, self.max_cost_nanos, sha256),
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()


def create(caller: Caller, wanted: Order, parts: Iterable[bytes]) -> tuple[BatchFile, bool]:
    """Store a file and let it be checked.

    Returns:
        The batch file, and whether it is new: the same Idempotency-Key gives the same one.

    Raises:
        ModelNotFoundError, NoPriceError, WrongTaskError, BatchFormatError, BatchLimitError,
        EmptyFileError, CompressedFileError, FileEncodingError, IdempotencyMismatchError:
            Nothing was stored.
    """
    served = versions.resolve(wanted.ref, caller)
    found_format = wanted.format or _format(wanted.name)
    batch_id = uuid7()
    try:
        size, sha256 = store.save(batch_id, parts)
        print_ = wanted.fingerprint(sha256)
        earlier = _replayed(caller, wanted, print_)
        if earlier is None:
            records.require_plain(store.beginning(batch_id))
            _require_room(caller)
            batch = _insert(caller, wanted, served, batch_id, found_format, size, sha256, print_)
            doorbell.ring()
            return batch, True
    except FileError as error:
        store.delete(batch_id)
        raise from_file_error(error) from error
    except IntegrityError:
        # The same key, at the same moment, in another process.
        earlier = _replayed(caller, wanted, print_)
        if earlier is None:
            store.delete(batch_id)
            raise
    except BaseException:
        # Whatever stopped the upload: no row names what it left.
        store.delete(batch_id)
        raise
    store.delete(batch_id)
    return earlier, False


def _insert(
    caller: Caller,
    wanted: Order,
    served: Served,
    batch_id: UUID,
    found_format: str,
    size: int,
    sha256: str,
    fingerprint: str,
) -> BatchFile:
    with transaction.atomic():
        return BatchFile.objects.create(
            id=batch_id,
            organization_id=caller.organization_id,
            api_key_id=caller.api_key_id,
            user_id=caller.user_id,
            model_version_id=served.version_id,
            name=wanted.name,
            format=found_format,
            size_bytes=size,
            sha256=sha256,
            starts_itself=wanted.starts_itself,
            skips_invalid=wanted.skips_invalid,
            when_refused=wanted.when_refused,
            max_cost_nanos=wanted.max_cost_nanos,
            price_version_id=served.terms.plan.price_version_id,
            share_version_id=served.share_version_id,
            idempotency_key=wanted.idempotency_key,
            fingerprint=fingerprint if wanted.idempotency_key else "",
            expires_at=until(),
        )


def until() -> datetime:
    """Return until when a file is kept in which something has happened now."""
    return datetime.now(UTC) + timedelta(days=settings.BATCH_RETENTION_DAYS)


def _format(name: str) -> str:
    for ending, found in _FORMATS.items():
        if name.lower().endswith(ending):
            return found
    raise BatchFormatError(
        "The name of the file must end in .jsonl, .ndjson or .csv; or send `format`.",
        param="format",
    )


def _replayed(caller: Caller, wanted: Order, fingerprint: str) -> BatchFile | None:
    if not wanted.idempotency_key:
        return None
    earlier = BatchFile.objects.filter(
        organization_id=caller.organization_id, idempotency_key=wanted.idempotency_key
    ).first()
    if earlier is not None and earlier.fingerprint != fingerprint:
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used with another request.", param="Idempotency-Key"
        )
    return earlier


def _require_room(caller: Caller) -> None:
    is_open = BatchFile.objects.filter(organization_id=caller.organization_id).exclude(
        status__in=BatchFile.TERMINAL
    )
    if is_open.count() >= MAX_OPEN:
        raise BatchLimitError(
            f"{MAX_OPEN} batch files are open. Wait for one to end, or cancel one."
        )


def start(batch: BatchFile, *, max_cost_nanos: int | None = None) -> None:
    """Let a checked file run, or one that is paused try again at once; twice is fine.

    One that is still checked starts when that is done.

    Raises:
        BatchStateError: It has ended.
        BatchPriceChangedError: It costs more than was estimated; see its new estimate.
        CostCeilingError: The estimate is more than the most it may cost.
        ModelNotFoundError, NoPriceError: The version is not offered any more.
    """
    mine = BatchFile.objects.filter(pk=batch.pk)
    if max_cost_nanos is not None:
        mine.filter(status__in=(Status.CHECKING, Status.READY)).update(
            max_cost_nanos=max_cost_nanos
        )
        batch.max_cost_nanos = max_cost_nanos
    waits = mine.filter(status=Status.CHECKING).update(starts_itself=True)
    if not waits and not mine.filter(status=Status.PAUSED).update(retry_at=Now()):
        batch.refresh_from_db(fields=["status", "price_version", "estimate_nanos"])
        if batch.status == Status.READY:
            _start_ready(batch)
        elif batch.status != Status.PROCESSING:
            raise BatchStateError(f"This batch file has {batch.status}.")
    doorbell.ring()
    events.ring(batch.pk)


def start_by_itself(batch: BatchFile) -> None:
    """Start a checked file whose owner wished so; if it cannot be, its page says why."""
    try:
        start(batch)
    except MercatoError as error:
        # It stays ready: its owner sees why, and starts it or does not.
        BatchFile.objects.filter(pk=batch.pk, status=Status.READY).update(
            error_code=error.code, error_message=error.message[:500]
        )


def _start_ready(batch: BatchFile) -> None:
    _follow_price(batch)
    most = batch.max_cost_nanos
    if most is not None and batch.estimate_nanos > most:
        raise CostCeilingError(
            f"This file may cost {decimal_text(batch.estimate_nanos)}, more than the "
            f"{decimal_text(most)} that it may. Nothing was charged."
        )
    BatchFile.objects.filter(pk=batch.pk, status=Status.READY).update(
        status=Status.PROCESSING,
        started_at=Now(),
        error_code="",
        error_message="",
        expires_at=until(),
    )


def _follow_price(batch: BatchFile) -> None:
    """Take the price of now; a higher one is shown before anything runs by it."""
    version = batch.model_version
    caller = Caller(batch.organization_id, batch.organization.slug)
    served = versions.resolve(version.path, caller)
    price_id = served.terms.plan.price_version_id
    if price_id == batch.price_version_id:
        return
    price = PriceVersion.objects.prefetch_related("components").get(pk=price_id)
    ready = BatchFile.objects.filter(pk=batch.pk, status=Status.READY)
    frozen = {"price_version_id": price_id, "share_version_id": served.share_version_id}
    if estimates.depends_on_content(price):
        _check_again(batch, frozen)
        raise BatchPriceChangedError(
            "The price has changed. The file is estimated anew; look at it and start it again."
        )
    before, batch.estimate_nanos = batch.estimate_nanos, estimates.again(batch, price)
    ready.update(estimate_nanos=batch.estimate_nanos, **frozen)
    if batch.estimate_nanos > before:
        raise BatchPriceChangedError(
            f"The price has risen: the estimate is {decimal_text(batch.estimate_nanos)} now, not "
            f"{decimal_text(before)}. Start it again if that is fine."
        )


def _check_again(batch: BatchFile, frozen: dict[str, int]) -> None:
    with transaction.atomic():
        changed = BatchFile.objects.filter(pk=batch.pk, status=Status.READY).update(
            status=Status.CHECKING,
            starts_itself=False,
            checked_bytes=0,
            checked_lines=0,
            rows=0,
            invalid_rows=0,
            row_errors=[],
            columns=[],
            estimate_nanos=0,
            **frozen,
        )
        if changed:
            batch.chunks.all().delete()


def cancel(batch: BatchFile) -> None:
    """End a file: what is done stays and is paid, what is under way is not charged.

    Twice is fine.

    Raises:
        BatchStateError: It has succeeded or failed.
    """
    is_open = BatchFile.objects.filter(pk=batch.pk).exclude(status__in=BatchFile.TERMINAL)
    is_open.update(status=Status.CANCELED, finished_at=Now(), expires_at=until())
    batch.refresh_from_db(fields=["status"])
    if batch.status != Status.CANCELED:
        raise BatchStateError(f"This batch file has already {batch.status}.")
    events.ring(batch.pk)


def delete(batch: BatchFile) -> None:
    """Remove a file that has ended, and its results.

    Raises:
        BatchStateError: It has not ended.
    """
    ended = BatchFile.objects.filter(pk=batch.pk, status__in=BatchFile.TERMINAL)
    if not ended.exists():
        raise BatchStateError("This batch file has not ended. Cancel it first.")
    # The row first: what a crash leaves in the folder is an orphan, and swept.
    ended.delete()
    store.delete(batch.pk)
