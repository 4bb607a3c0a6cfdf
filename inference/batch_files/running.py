"""Runs one chunk: money set aside, rows run, results written, rows charged; in this order.

Results are on disk before the charge is committed, and the row that names them is written in the
transaction of the charge. So whoever dies in between leaves either nothing that counts, or all.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from django.conf import settings

from accounts.errors import MercatoError
from accounts.keys import Caller
from billing import alerts, crashes, holds
from billing.models import Hold
from billing.money import decimal_text
from billing.rating import BATCH
from billing.reports import Report, Terms, terms_of
from inference import loading
from inference.answers import dumps
from inference.batch_files import estimates, giving_way, leases, records, store
from inference.batch_files.errors import ROW_FAILURES
from inference.batch_files.leases import Lease, LeaseLostError
from inference.batch_files.records import Record
from inference.batch_files.rows import RowError, RowReader
from inference.fetching import DamagedArtifactError
from inference.generation import steps
from inference.generation.wanted import Wanted
from inference.inputs import Input
from inference.metrics import counting, families
from inference.models import BatchFile
from inference.runtime import batches, tensors
from inference.runtime.errors import ModelError
from inference.runtime.sessions import Arrays, Session
from inference.runtime.signature import Signature
from inference.runtime.writers import WriterSession

# A chunk is one charge; a piece of it is one call of the model. Between pieces live calls go first.
PIECE_ROWS = 32
# While texts are written: whether the file is still wanted is asked so often, at least.
_RENEW_SECONDS = 2.0

logger = logging.getLogger(__name__)


class StoppingError(Exception):
    """The worker is asked to stop: another one runs the chunk."""


NO_TOKENS: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True)
class Entry:
    """One row of the chunk: what it is, then what became of it."""

    place: int
    record: Record
    id: str = ""
    input: Input | None = None
    # The tokens that it may use at most, and those that it has used.
    most: Mapping[str, int] = field(default_factory=lambda: NO_TOKENS)
    used: Mapping[str, int] = field(default_factory=lambda: NO_TOKENS)
    error: RowError | None = None
    # How it ended, and what it gives if that is well: arrays, or the answer with a text.
    outcome: str = ""
    output: Arrays | Mapping[str, str] | None = None
    report: Report | None = None


def run_next(
    owner: str, is_stopping: Callable[[], bool], labels: Mapping[str, str] | None = None
) -> bool:
    """Run the next chunk; False if none waits.

    Args:
        is_stopping: Returns whether the worker is asked to stop; looked at between pieces.
        labels: What the worker can do; versions that need more are left to others.
    """
    lease = leases.claim(owner, labels or {})
    if lease is None:
        return False
    try:
        _run(lease, owner, is_stopping)
    except (LeaseLostError, StoppingError):
        leases.give_back(lease)
    except DamagedArtifactError:
        logger.exception("texts for version %s cannot be read", lease.batch.model_version_id)
        _wait_for_model(lease)
    except FileNotFoundError:
        leases.give_back(lease)
        leases.fail(lease.batch.pk, "file_lost", "The file is not in the data folder any more.")
    return True


def _run(lease: Lease, owner: str, is_stopping: Callable[[], bool]) -> None:
    batch, began_ns = lease.batch, time.perf_counter_ns()
    if batch.api_key is not None and not batch.api_key.is_usable:
        leases.give_back(lease)
        leases.fail(batch.pk, "key_revoked", "The key that started it is not accepted any more.")
        return
    entries = _entries(lease)
    if lease.chunk.losses >= leases.MAX_LOSSES:
        _give_up(entries)
    runnable = [entry for entry in entries if entry.input is not None]
    terms = terms_of(batch.price_version_id, batch.share_version_id, batch.model_version_id, BATCH)
    if runnable:
        if not _is_loaded(lease) or not _reserve(lease, runnable, terms):
            return
        for piece in _pieces(runnable):
            if is_stopping():
                raise StoppingError
            giving_way.wait()
            leases.renew(lease)
            with loading.using(batch.model_version_id) as session:
                _compute(lease, piece, session, terms, owner, is_stopping)
            crashes.point("batch_file.computed")
    size = store.write(store.result(lease.chunk), _lines(lease, entries))
    crashes.point("batch_file.written")
    reports = [entry.report for entry in runnable if entry.report is not None]
    succeeded = sum(report.outcome == "succeeded" for report in reports)
    finish_ns = time.perf_counter_ns()
    leases.finish(lease, reports, succeeded=succeeded, result_bytes=size)
    _count(batch, entries, began_ns)
    _trace(batch, reports, counting.since(finish_ns))


def _count(batch: BatchFile, entries: Sequence[Entry], began_ns: int) -> None:
    """Count a chunk whose rows are charged; each row is a call, from when the chunk was taken."""
    model, took = batch.model_version.model.path, counting.since(began_ns)
    for entry in entries:
        outcome, rows = entry.error.code if entry.error else "model_error", 0
        if entry.report is not None:
            outcome, rows = entry.report.outcome, 1
        counting.call(model, batch.organization_id, outcome, took, rows, families.BATCH)


def _trace(batch: BatchFile, reports: Sequence[Report], capture_us: int) -> None:
    """Keep where the time of a chunk's rows went, from when their file was started."""
    assert batch.started_at is not None
    took = (datetime.now(UTC) - batch.started_at) // timedelta(microseconds=1)
    for report in reports:
        waited = max(took - report.run_us - capture_us, 0)
        stages = (0, 0, 0, waited, report.run_us, capture_us, 0)
        counting.event(counting.Trace(report.hold_id, stages, report.batch_rows))


def _entries(lease: Lease) -> list[Entry]:
    """Read and check the rows of the chunk."""
    batch, chunk = lease.batch, lease.chunk
    signature = loading.decoding_signature_of(batch.model_version_id)
    reader = RowReader(signature, batch.columns, str(batch.pk))
    with store.source(batch.pk).open("rb") as stream:
        found = records.read(
            stream,
            is_csv=batch.format == BatchFile.Format.CSV,
            offset=chunk.offset,
            line=chunk.first_line - 1,
            max_bytes=settings.BATCH_MAX_LINE_BYTES,
        )
        entries = [
            Entry(place, record) for place, record in enumerate(itertools.islice(found, chunk.rows))
        ]
    for entry in entries:
        try:
            row = reader.read(entry.record)
        except RowError as error:
            entry.error = error
        else:
            entry.id, entry.input, entry.most = row.id, row.input, row.input.tokens() or NO_TOKENS
    return entries


def _give_up(entries: Sequence[Entry]) -> None:
    """Fail the rows among which is one that kills workers; nobody can say which."""
    for entry in entries:
        if entry.input is not None:
            entry.input = None
            entry.error = RowError("worker_lost", ROW_FAILURES["worker_lost"])


def _is_loaded(lease: Lease) -> bool:
    try:
        loading.session_of(lease.batch.model_version_id)
    except Exception:  # a damaged file may raise anything; the file waits until it is put right
        logger.exception("version %s cannot be loaded", lease.batch.model_version_id)
        _wait_for_model(lease)
        return False
    return True


def _wait_for_model(lease: Lease) -> None:
    leases.give_back(lease)
    leases.pause(lease.batch.pk, "not_loaded", "The model cannot be loaded at the moment.")


def _reserve(lease: Lease, entries: Sequence[Entry], terms: Terms) -> bool:
    """Set the money of all rows aside; without it the file waits, or ends, as its owner chose."""
    batch, now = lease.batch, datetime.now(UTC)
    caller = Caller(batch.organization_id, batch.organization.slug, batch.api_key_id, batch.user_id)
    try:
        holds.reserve_together(
            [
                holds.prepare(
                    caller,
                    terms.plan,
                    share_version_id=batch.share_version_id,
                    quantities=estimates.quantities(entry.record.size, entry.most),
                    source=Hold.Source.BATCH,
                    accepted_at=now,
                    expires_at=leases.holds_until(),
                    model_version_id=batch.model_version_id,
                    request_id=str(batch.pk),
                    hold_id=lease.hold_id(entry.place),
                )
                for entry in entries
            ]
        )
    except MercatoError as error:
        alerts.note_refusals([error])
        leases.give_back(lease)
        if batch.when_refused == BatchFile.WhenRefused.FAIL:
            leases.fail(batch.pk, error.code, error.message)
        else:
            leases.pause(batch.pk, error.code, error.message)
        return False
    crashes.point("batch_file.reserved")
    leases.resume(batch)
    return True


def _pieces(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    if isinstance(entries[0].input, Wanted):
        # Texts give way while they are written.
        yield entries
        return
    for start in range(0, len(entries), PIECE_ROWS):
        yield entries[start : start + PIECE_ROWS]


def _compute(
    lease: Lease,
    piece: Sequence[Entry],
    session: Session,
    terms: Terms,
    owner: str,
    is_stopping: Callable[[], bool],
) -> None:
    started = time.perf_counter_ns()
    if isinstance(session, WriterSession):
        _write(lease, piece, session, is_stopping)
    else:
        _predict(piece, session)
    run_us = (time.perf_counter_ns() - started) // 1000
    outcomes = [entry.outcome for entry in piece]
    # A chunk is charged as one: its pieces have no charge of their own.
    counting.event(counting.Worked(owner, outcomes, len(piece), run_us, 0))
    now = datetime.now(UTC)
    for entry in piece:
        entry.input = None
        entry.report = Report(
            hold_id=lease.hold_id(entry.place),
            outcome=entry.outcome,
            terms=terms,
            quantities=estimates.quantities(entry.record.size, entry.used),
            organization_id=lease.batch.organization_id,
            reserved_nanos=estimates.row_nanos(terms.plan, entry.record.size, entry.most),
            accepted_at=now,
            completed_at=now,
            model_version_id=lease.batch.model_version_id,
            failure="" if entry.outcome == "succeeded" else entry.outcome,
            run_us=run_us,
            batch_rows=len(piece),
            worker=owner,
        )


def _predict(piece: Sequence[Entry], session: Session) -> None:
    given = [entry.input.arrays for entry in piece if isinstance(entry.input, tensors.Input)]
    arrays = batches.join(given)
    outputs = batches.run(giving_way.polite(session), arrays, [1] * len(piece))
    for entry, output in zip(piece, outputs, strict=True):
        entry.used, entry.outcome = entry.most, "model_error"
        if not isinstance(output, ModelError):
            entry.outcome, entry.output = "succeeded", output


def _write(
    lease: Lease, piece: Sequence[Entry], session: WriterSession, is_stopping: Callable[[], bool]
) -> None:
    """Write the texts of a piece; between steps live calls go first."""
    signature = loading.signature_of(lease.batch.model_version_id)
    wanted = [entry.input for entry in piece if isinstance(entry.input, Wanted)]
    texts = steps.begin(session, wanted, signature.vocabulary)
    every = min(settings.BATCH_LEASE_SECONDS / 4, _RENEW_SECONDS)
    renewed_at = time.monotonic()
    for _ in steps.write(session, texts):
        if is_stopping():
            raise StoppingError
        if time.monotonic() - renewed_at >= every:
            renewed_at = time.monotonic()
            leases.renew(lease)
    for entry, text in zip(piece, texts, strict=True):
        entry.used = {**entry.most, "output_token": text.output_tokens}
        entry.outcome = text.outcome
        if text.outcome == "succeeded":
            entry.output = {signature.outputs[0].name: text.written, "finish_reason": text.reason}


def _lines(lease: Lease, entries: Sequence[Entry]) -> Iterator[bytes]:
    """Write a line of JSON per row, in the order of the file."""
    signature = loading.signature_of(lease.batch.model_version_id)
    for entry in entries:
        line: dict[str, Any] = {
            "row": lease.chunk.first_row + entry.place,
            "line": entry.record.line,
            "id": entry.id or None,
            "status": "failed",
            "output": None,
            "error": None,
            "units": None,
            "cost": "0",
            "hold": None,
        }
        if entry.report is not None:
            line["cost"] = decimal_text(entry.report.cost_nanos)
            if entry.report.is_captured:
                line["hold"] = str(entry.report.hold_id)
                line["units"] = {"row": 1, **entry.used}
        if entry.error is not None:
            line["error"] = {"code": entry.error.code, "message": entry.error.message}
        elif entry.output is not None:
            line["status"], line["output"] = "succeeded", _told(entry.output, signature)
        else:
            line["error"] = {"code": "model_error", "message": ROW_FAILURES["model_error"]}
        yield dumps(line) + b"\n"


def _told(output: Mapping[str, Any], signature: Signature) -> Any:
    if signature.input_kind == "prompt":
        return output
    return tensors.encode(output, signature, is_batch=False)
