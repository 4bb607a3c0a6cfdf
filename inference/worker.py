"""The predict worker: takes a batch, runs it, charges it in one transaction, replies."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from billing import holds
from billing.models import ShareVersion
from billing.rating import plan_of
from billing.reports import Report, Terms
from catalog.models import Artifact, MLModel, ModelVersion, PriceVersion
from inference.answers import Answer, plain
from inference.connections import PREDICT_DB, redis_client
from inference.models import Prediction
from inference.runtime import batches
from inference.runtime.cache import ModelCache
from inference.runtime.errors import ModelError
from inference.runtime.sessions import Arrays, Session, open_session, warm_up
from inference.runtime.signature import Signature
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
sessions: ModelCache[int] = ModelCache(settings.MODEL_CACHE_BYTES)
_KINDS = {"onnx": Artifact.Kind.ONNX, "tensorflow": Artifact.Kind.SAVED_MODEL}


def run_batch(batch_id: str, worker: str) -> None:
    """Run one batch, unless another worker has taken it."""
    batch = _take(batch_id, worker)
    if batch is None:
        return
    started = time.perf_counter_ns()
    outputs = _compute(batch)
    run_us = (time.perf_counter_ns() - started) // 1000
    reports = _reports(batch, outputs, run_us, worker)
    reply = _reply(reports, outputs)
    _stage(batch_id, reply)
    ours = _charge(batch, outputs, reports)
    _send(batch_id, _confirmed(reply, ours))


def _take(batch_id: str, worker: str) -> Batch | None:
    client = redis_client(PREDICT_DB)
    expiry = settings.PREDICT_TIMEOUT_SECONDS * 2000
    both = client.pipeline(transaction=False)
    both.set(taken_key(batch_id), worker, nx=True, px=expiry)
    both.get(batch_key(batch_id))
    is_mine, data = both.execute()
    if not is_mine:
        return None
    # Without data the callers have given up: nobody waits, nothing is charged.
    return unpack_batch(data) if data else None


@cache
def _signature(version_id: int) -> Signature:
    return Signature.from_json(ModelVersion.objects.get(pk=version_id).signature)


def session_of(version_id: int) -> Session:
    """Return the loaded model of a version."""
    return sessions.get(version_id, lambda: _open(version_id))


def _open(version_id: int) -> Session:
    version = ModelVersion.objects.get(pk=version_id)
    artifact = version.artifacts.get(kind=_KINDS[version.runtime])
    session = open_session(version.runtime, settings.ARTIFACTS / artifact.path)
    warm_up(
        session, {spec.name: (spec.shape, spec.datatype) for spec in _signature(version_id).inputs}
    )
    return session


def _compute(batch: Batch) -> list[Arrays | ModelError]:
    rows = [item.rows for item in batch.items]
    try:
        session = session_of(batch.version_id)
    except Exception:  # a damaged file may raise anything, and every caller must be answered
        logger.exception("version %s cannot be loaded", batch.version_id)
        return [ModelError("not_loaded")] * len(rows)
    return batches.run(session, batch.arrays, rows)


@cache
def _terms(price_version_id: int, share_version_id: int, version_id: int) -> Terms:
    """Return what was frozen at admission; all three rows never change."""
    price = PriceVersion.objects.prefetch_related("components").get(pk=price_version_id)
    share = ShareVersion.objects.get(pk=share_version_id)
    policy = ModelVersion.objects.get(pk=version_id).outcome_policy
    return Terms(plan_of(price), share.publisher_bps, policy)


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
    return Report(
        hold_id=item.hold_id,
        outcome=outcome,
        terms=_terms(item.price_version_id, item.share_version_id, batch.version_id),
        quantities={"call": 1, "row": item.rows, "byte": item.input_bytes},
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


def _reply(reports: Sequence[Report], outputs: Sequence[Arrays | ModelError]) -> Reply:
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
    )


def _stage(batch_id: str, reply: Reply) -> None:
    """Put the reply where the gateway finds it if this process dies after the commit.

    So nobody is charged for an answer that cannot be given.
    """
    expiry = settings.PREDICT_TIMEOUT_SECONDS * 2000
    redis_client(PREDICT_DB).set(staged_key(batch_id), pack_reply(reply), px=expiry)


def _charge(
    batch: Batch, outputs: Sequence[Arrays | ModelError], reports: Sequence[Report]
) -> list[bool]:
    """End all holds of the batch and store what is stored, in one transaction."""
    try:
        return _charge_once(batch, outputs, reports)
    except DatabaseError:
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
        signature=_signature(batch.version_id),
        arrays=output,
        is_batch=item.is_batch,
        rows=item.rows,
        batch_rows=report.batch_rows,
        queue_us=report.queue_us,
        run_us=report.run_us,
        cost_nanos=report.cost_nanos,
        currency=report.terms.plan.currency,
        price_version_id=item.price_version_id,
    )
    return plain(answer.as_json())


def _confirmed(reply: Reply, ours: Sequence[bool]) -> Reply:
    results = [
        Result(one.outcome, one.cost_nanos, is_ours, one.error)
        for one, is_ours in zip(reply.results, ours, strict=True)
    ]
    return Reply(results, reply.arrays, reply.queue_us, reply.run_us, reply.batch_rows)


def _send(batch_id: str, reply: Reply) -> None:
    key = reply_key(batch_id)
    pipeline = redis_client(PREDICT_DB).pipeline(transaction=False)
    pipeline.rpush(key, pack_reply(reply))
    pipeline.pexpire(key, settings.PREDICT_TIMEOUT_SECONDS * 1000)
    # What says that the batch is taken stays: a late message must not start it again.
    pipeline.unlink(batch_key(batch_id), staged_key(batch_id))
    pipeline.execute()


def preload() -> None:
    """Load what the catalogue offers, before the first caller waits for it."""
    for version_id in MLModel.objects.filter(current_version__isnull=False).values_list(
        "current_version", flat=True
    ):
        try:
            session_of(version_id)
        except Exception:  # one damaged model must not keep the others from being served
            logger.exception("version %s cannot be loaded", version_id)


def loaded() -> list[dict[str, Any]]:
    """Return what is in memory, for the console."""
    sizes = sessions.loaded()
    found = ModelVersion.objects.filter(pk__in=sizes).select_related("model__owner")
    return [
        {"version": version.path, "runtime": version.runtime, "bytes": sizes[version.pk]}
        for version in found
    ]
