"""The predict worker: takes a batch, runs it, charges it in one transaction, replies."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from billing import holds
from billing.reports import Report, terms_of
from catalog.models import ModelVersion
from inference import loading
from inference.answers import Answer, plain
from inference.link import predict_link
from inference.metrics import counting
from inference.models import Prediction
from inference.runtime import batches
from inference.runtime.errors import ModelError
from inference.runtime.sessions import Arrays
from inference.wire import (
    Batch,
    Item,
    Reply,
    Result,
    batch_key,
    pack_reply,
    reply_key,
    staged_key,
    taken_key,
    unpack_batch,
)

logger = logging.getLogger(__name__)


def run_batch(batch_id: str, worker: str) -> None:
    """Run one batch, unless another worker has taken it."""
    batch = _take(batch_id, worker)
    if batch is None:
        return
    started = time.perf_counter_ns()
    outputs = _compute(batch)
    run_us = (time.perf_counter_ns() - started) // 1000
    reports = _reports(batch, outputs, run_us, worker)
    reply = _reply(batch, reports, outputs)
    _stage(batch_id, reply)
    began_ns = time.perf_counter_ns()
    ours = _charge(batch, outputs, reports)
    capture_us = counting.since(began_ns)
    _send(batch_id, _confirmed(reply, ours, capture_us))
    outcomes = [one.outcome for one in reports]
    counting.event(counting.Worked(worker, outcomes, reply.batch_rows, run_us, capture_us))


def is_waited_for(batch_id: str) -> bool:
    """Whether a batch has neither been answered nor given up."""
    return bool(predict_link().ask(("EXISTS", batch_key(batch_id)))[0])


def _take(batch_id: str, worker: str) -> Batch | None:
    expiry = settings.PREDICT_TIMEOUT_SECONDS * 2000
    is_mine, data = predict_link().ask(
        ("SET", taken_key(batch_id), worker, "NX", "PX", expiry), ("GET", batch_key(batch_id))
    )
    if not is_mine:
        return None
    # Without data the callers have given up: nobody waits, nothing is charged.
    return unpack_batch(data) if data else None


def _compute(batch: Batch) -> list[Arrays | ModelError]:
    rows = [item.rows for item in batch.items]
    try:
        with loading.using(batch.version_id) as session:
            return batches.run(session, batch.arrays, rows)
    except Exception:  # a damaged file may raise anything, and every caller must be answered
        logger.exception("version %s cannot be loaded", batch.version_id)
        return [ModelError("not_loaded")] * len(rows)


def _reports(
    batch: Batch, outputs: Sequence[Arrays | ModelError], run_us: int, worker: str
) -> list[Report]:
    now = datetime.now(UTC)
    batch_rows = sum(item.rows for item in batch.items)
    return [
        _report(batch, item, output, now, run_us, batch_rows, worker)
        for item, output in zip(batch.items, outputs, strict=True)
    ]


def _report(
    batch: Batch,
    item: Item,
    output: Arrays | ModelError,
    now: datetime,
    run_us: int,
    batch_rows: int,
    worker: str,
) -> Report:
    failed = isinstance(output, ModelError)
    not_loaded = failed and str(output) == "not_loaded"
    outcome = "platform_error" if not_loaded else "model_error" if failed else "succeeded"
    waited = int((now - item.accepted_at).total_seconds() * 1e6) - run_us
    # Until the model was loaded nobody queued: that time is ours.
    waited -= loading.start_us(batch.version_id, item.accepted_at, now)
    return Report(
        hold_id=item.hold_id,
        outcome=outcome,
        terms=terms_of(item.price_version_id, item.share_version_id, batch.version_id),
        quantities={"call": 1, "row": item.rows, "byte": item.input_bytes}
        | ({"input_token": item.input_tokens} if item.input_tokens else {}),
        organization_id=item.organization_id,
        reserved_nanos=item.reserved_nanos,
        accepted_at=item.accepted_at,
        completed_at=now,
        model_version_id=batch.version_id,
        failure=outcome if failed else "",
        queue_us=max(waited, 0),
        run_us=run_us,
        batch_rows=batch_rows,
        worker=worker,
    )


def _reply(
    batch: Batch, reports: Sequence[Report], outputs: Sequence[Arrays | ModelError]
) -> Reply:
    good = [output for output in outputs if not isinstance(output, ModelError)]
    return Reply(
        results=[
            Result(report.outcome, report.cost_nanos, is_ours=True, error=report.failure)
            for report in reports
        ],
        arrays=batches.join(good) if good else {},
        queue_us=[report.queue_us for report in reports],
        run_us=reports[0].run_us,
        batch_rows=reports[0].batch_rows,
        start_us=[
            loading.start_us(batch.version_id, report.accepted_at, report.completed_at)
            for report in reports
        ],
    )


def _stage(batch_id: str, reply: Reply) -> None:
    """Put the reply where the gateway finds it if this process dies after the commit.

    So nobody is charged for an answer that cannot be given. It is on its way while the charge is
    written; the commit waits for it.
    """
    expiry = settings.PREDICT_TIMEOUT_SECONDS * 2000
    predict_link().post(("SET", staged_key(batch_id), pack_reply(reply), "PX", expiry))


def _charge(
    batch: Batch, outputs: Sequence[Arrays | ModelError], reports: Sequence[Report]
) -> list[bool]:
    """End all holds of the batch and store what is stored, in one transaction."""
    try:
        return _charge_once(batch, outputs, reports)
    except (DatabaseError, InterfaceError):
        # The connection may be gone, with or without the commit. A second time is harmless:
        # a hold ends once.
        logger.warning("charge: trying again", exc_info=True)
        connection.close()
        return _charge_once(batch, outputs, reports)


def _charge_once(
    batch: Batch, outputs: Sequence[Arrays | ModelError], reports: Sequence[Report]
) -> list[bool]:
    with transaction.atomic():
        ours = holds.capture_many(reports)
        for item, output, report, is_ours in zip(batch.items, outputs, reports, ours, strict=True):
            if item.prediction_id is not None and is_ours:
                _store(batch, item, item.prediction_id, output, report)
        predict_link().flush()
    return ours


def _store(
    batch: Batch, item: Item, prediction_id: UUID, output: Arrays | ModelError, report: Report
) -> None:
    failed = isinstance(output, ModelError)
    Prediction.objects.filter(pk=prediction_id).update(
        status=Prediction.Status.FAILED if failed else Prediction.Status.SUCCEEDED,
        answer={"code": report.failure} if failed else _answer(batch, item, output, report),
        finished_at=report.completed_at,
    )


def _answer(batch: Batch, item: Item, output: Arrays | ModelError, report: Report) -> Any:
    assert not isinstance(output, ModelError)
    version = ModelVersion.objects.select_related("model__owner").get(pk=batch.version_id)
    answer = Answer(
        prediction_id=item.prediction_id or item.hold_id,
        hold_id=item.hold_id,
        version_path=version.path,
        signature=loading.signature_of(batch.version_id),
        arrays=output,
        is_batch=item.is_batch,
        rows=item.rows,
        batch_rows=report.batch_rows,
        queue_us=report.queue_us,
        run_us=report.run_us,
        start_us=loading.start_us(batch.version_id, report.accepted_at, report.completed_at),
        cost_nanos=report.cost_nanos,
        currency=report.terms.plan.currency,
        price_version_id=item.price_version_id,
        input_tokens=item.input_tokens,
    )
    return plain(answer.as_json())


def _confirmed(reply: Reply, ours: Sequence[bool], capture_us: int) -> Reply:
    results = [
        Result(one.outcome, one.cost_nanos, is_ours, one.error)
        for one, is_ours in zip(reply.results, ours, strict=True)
    ]
    return replace(reply, results=results, capture_us=capture_us)


def _send(batch_id: str, reply: Reply) -> None:
    key = reply_key(batch_id)
    predict_link().post(
        ("RPUSH", key, pack_reply(reply)),
        ("PEXPIRE", key, settings.PREDICT_TIMEOUT_SECONDS * 1000),
        # What says that the batch is taken stays: a late message must not start it again.
        ("UNLINK", batch_key(batch_id), staged_key(batch_id)),
    )
