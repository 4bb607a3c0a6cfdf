"""Looks at every row of an uploaded file, a chunk at a time, and works out what it will cost.

What was found is committed with each chunk: a worker that dies loses one chunk's check, and the
next one goes on from there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from billing import crashes
from billing.rating import PricePlan
from inference import loading
from inference.batch_files import estimates, events, giving_way, leases, orders, records, store
from inference.batch_files.records import FileError, Record
from inference.batch_files.rows import RowError, RowReader, layout
from inference.models import BatchChunk, BatchFile
from inference.runtime.signature import Signature

Status = BatchFile.Status
# The first errors are kept; the others are counted.
MAX_ERRORS = 100
# A chunk is closed earlier if its rows are long: it is held in memory whole.
MAX_CHUNK_BYTES = 4 * 1024 * 1024
# Texts that are written together; who dies while it writes loses no more.
MAX_CHUNK_TEXTS = 64
# After so many chunks another file, or a chunk that can run, has its turn.
_CHUNKS_PER_TURN = 8


class CheckLostError(Exception):
    """Somebody else checks the file by now, or it was canceled."""


@dataclass(slots=True)
class _Found:
    """What the check of one chunk found."""

    rows: int = 0
    invalid: int = 0
    nanos: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)


def check_next(owner: str) -> bool:
    """Check some chunks of the file that has waited longest; False if none waits."""
    batch = _claim(owner)
    if batch is None:
        return False
    try:
        is_done = _check(batch)
    except FileError as error:
        leases.fail(batch.pk, error.code, error.message)
    except FileNotFoundError:
        leases.fail(batch.pk, "file_lost", "The file is not in the data folder any more.")
    except CheckLostError:
        return True
    else:
        if is_done:
            _finish(batch)
        else:
            _mine(batch).update(lease_until=None, lease_owner="")
    events.ring(batch.pk)
    return True


def _claim(owner: str) -> BatchFile | None:
    free = Q(lease_until=None) | Q(lease_until__lt=Now())
    batch = (
        BatchFile.objects.filter(free, status=Status.CHECKING)
        .select_related("organization", "model_version__model__owner", "price_version")
        .order_by(F("claimed_at").asc(nulls_first=True), "pk")
        .first()
    )
    if batch is None:
        return None
    taken = BatchFile.objects.filter(
        pk=batch.pk, status=Status.CHECKING, attempt=batch.attempt
    ).update(
        attempt=batch.attempt + 1,
        lease_owner=owner,
        lease_until=leases.from_now(settings.BATCH_LEASE_SECONDS),
        claimed_at=Now(),
    )
    batch.attempt += 1
    return batch if taken else None


def _mine(batch: BatchFile) -> Any:
    return BatchFile.objects.filter(pk=batch.pk, attempt=batch.attempt, status=Status.CHECKING)


def _check(batch: BatchFile) -> bool:
    """Check some chunks; returns whether the file is at its end."""
    signature = loading.decoding_signature_of(batch.model_version_id)
    plan = estimates.plan(batch.price_version)
    with store.source(batch.pk).open("rb") as stream:
        if batch.format == BatchFile.Format.CSV and not batch.columns:
            _read_header(batch, stream)
        reader = RowReader(signature, batch.columns, str(batch.pk))
        groups = _groups(_read(batch, stream), most_rows(signature))
        for group in itertools.islice(groups, _CHUNKS_PER_TURN):
            giving_way.wait()
            _commit(batch, group, _look(batch, group, reader, plan))
        return not stream.read(1)


def _read(batch: BatchFile, stream: BinaryIO) -> Iterator[Record]:
    return records.read(
        stream,
        is_csv=batch.format == BatchFile.Format.CSV,
        offset=batch.checked_bytes,
        line=batch.checked_lines,
        max_bytes=settings.BATCH_MAX_LINE_BYTES,
    )


def _read_header(batch: BatchFile, stream: BinaryIO) -> None:
    header = next(_read(batch, stream), None)
    if header is None:
        raise FileError("empty_file", "There is no row in the file.")
    batch.columns = records.cells(header)
    layout(loading.signature_of(batch.model_version_id), batch.columns)
    batch.checked_bytes, batch.checked_lines = header.end, header.line - 1 + header.lines
    changed = _mine(batch).update(
        columns=batch.columns,
        checked_bytes=batch.checked_bytes,
        checked_lines=batch.checked_lines,
    )
    if not changed:
        raise CheckLostError


def most_rows(signature: Signature) -> int:
    """Return how many rows a chunk has: fewer of texts that are written, which take long."""
    if signature.input_kind == "prompt":
        return min(settings.BATCH_CHUNK_ROWS, MAX_CHUNK_TEXTS)
    return int(settings.BATCH_CHUNK_ROWS)


def _groups(found: Iterator[Record], rows: int) -> Iterator[list[Record]]:
    """Yield the records of one chunk after the other; nothing is read ahead of a chunk."""
    group: list[Record] = []
    size = 0
    for record in found:
        group.append(record)
        size += record.size
        if len(group) >= rows or size >= MAX_CHUNK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _look(batch: BatchFile, group: list[Record], reader: RowReader, plan: PricePlan) -> _Found:
    found = _Found()
    for record in group:
        found.rows += 1
        row = batch.rows + found.rows
        if row > settings.BATCH_MAX_ROWS:
            raise FileError(
                "too_many_rows", f"At most {settings.BATCH_MAX_ROWS} rows are allowed.", record.line
            )
        try:
            tokens = reader.read(record).input.tokens()
        except RowError as error:
            found.invalid += 1
            found.errors.append(
                {
                    "line": record.line,
                    "row": row,
                    "code": error.code,
                    "message": error.message,
                    "param": error.param,
                }
            )
        else:
            found.nanos += estimates.row_nanos(plan, record.size, tokens)
    return found


def _commit(batch: BatchFile, group: list[Record], found: _Found) -> None:
    first, last = group[0], group[-1]
    batch.row_errors = [*batch.row_errors, *found.errors][:MAX_ERRORS]
    with transaction.atomic():
        changed = _mine(batch).update(
            checked_bytes=last.end,
            checked_lines=last.line - 1 + last.lines,
            rows=batch.rows + found.rows,
            invalid_rows=batch.invalid_rows + found.invalid,
            row_errors=batch.row_errors,
            estimate_nanos=batch.estimate_nanos + found.nanos,
            lease_until=leases.from_now(settings.BATCH_LEASE_SECONDS),
        )
        if not changed:
            raise CheckLostError
        BatchChunk.objects.create(
            batch=batch,
            number=batch.chunks.count(),
            offset=first.offset,
            size_bytes=last.end - first.offset,
            first_row=batch.rows + 1,
            first_line=first.line,
            rows=found.rows,
        )
    batch.checked_bytes, batch.checked_lines = last.end, last.line - 1 + last.lines
    batch.rows += found.rows
    batch.invalid_rows += found.invalid
    batch.estimate_nanos += found.nanos
    crashes.point("batch_file.checked")
    events.ring(batch.pk)


def _finish(batch: BatchFile) -> None:
    """Say what the check found; a file that its owner has started already starts."""
    if batch.rows == 0:
        leases.fail(batch.pk, "empty_file", "There is no row in the file.")
        return
    if batch.invalid_rows and (not batch.skips_invalid or batch.invalid_rows == batch.rows):
        leases.fail(
            batch.pk,
            "invalid_rows",
            f"{batch.invalid_rows} of {batch.rows} rows do not fit the model. "
            "Nothing was run or charged.",
        )
        return
    if not _mine(batch).update(status=Status.READY, lease_owner="", lease_until=None):
        return
    crashes.point("batch_file.ready")
    batch.refresh_from_db()
    if batch.starts_itself:
        orders.start_by_itself(batch)
