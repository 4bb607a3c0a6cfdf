"""How a prediction ends: run, canceled, too late, lost. Its row and its hold end together, once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import crashes, holds, reports
from billing.models import Hold
from billing.money import decimal_text
from inference.asynchronous import events, payloads
from inference.asynchronous.claims import mine
from inference.metrics import counting, families
from inference.models import Prediction

Status = Prediction.Status
NOTHING = timedelta(0)
# Outcome → what is told of it, where that is another word.
_SHOWN = {"succeeded": "", "not_started": "canceled"}


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one prediction of a batch.

    Attributes:
        outcome: One of billing.outcomes.OUTCOMES; it is also the code of a failure.
        output: What the caller gets; None if it failed.
    """

    prediction: Prediction
    outcome: str
    output: Any
    run_us: int
    batch_rows: int
    worker: str


def finish(ran: Sequence[Ran]) -> list[Prediction]:
    """End a batch: outputs and charges in one transaction; returns those that were still ours."""
    began_ns = time.perf_counter_ns()
    held = Hold.objects.in_bulk([one.prediction.hold_id for one in ran])
    ended: list[tuple[Ran, reports.Report]] = []
    # In one order everywhere, rows before holds: two who end the same do not wait in a circle.
    with transaction.atomic():
        for one in sorted(ran, key=lambda one: one.prediction.pk):
            hold = held[one.prediction.hold_id]
            report = _report(one.prediction, hold, one)
            if _store(one, hold, report):
                ended.append((one, report))
        crashes.point("async.stored_ends")
        captured = holds.capture_many([report for _, report in ended])
        for (one, _report_of), is_captured in zip(ended, captured, strict=True):
            if not is_captured:
                _refuse(one.prediction, held[one.prediction.hold_id])
        crashes.point("async.finished")
    crashes.point("async.committed")
    for (one, report), is_captured in zip(ended, captured, strict=True):
        _count(one.prediction, one.outcome if is_captured else "hold_expired", report.completed_at)
        _trace(one.prediction, one.run_us, counting.since(began_ns), len(ran))
    return [one.prediction for one, _ in ended]


def _count(prediction: Prediction, outcome: str, ended_at: datetime) -> None:
    """Count how it ended, and how long its owner waited; its row must be ended for good."""
    waited = (ended_at - prediction.created_at) // timedelta(microseconds=1)
    counting.call(
        prediction.model_version.model.path,
        prediction.organization_id,
        outcome,
        max(waited, 0),
        prediction.rows,
        families.ASYNC,
    )


def _trace(prediction: Prediction, run_us: int, capture_us: int = 0, requests: int = 1) -> None:
    """Keep where its time went, which ends now; what is neither run nor charge was waiting."""
    took = (datetime.now(UTC) - prediction.created_at) // timedelta(microseconds=1)
    stages = (0, 0, 0, max(took - run_us - capture_us, 0), run_us, capture_us, 0)
    counting.event(counting.Trace(prediction.hold_id, stages, requests))


def _store(ran: Ran, hold: Hold, report: reports.Report) -> bool:
    """Write the end, if the attempt is still the one that runs."""
    prediction = ran.prediction
    cost = _cost(hold, report.cost_nanos if report.is_captured else 0, prediction)
    is_good = ran.outcome == "succeeded"
    prediction.status = Status.SUCCEEDED if is_good else Status.FAILED
    answer = _answer(ran, report, cost) if is_good else {"code": ran.outcome, "cost": cost}
    ended = _ended(prediction.status, report.completed_at)
    # Only what has begun can succeed; what cannot be loaded never begins.
    ours = mine(prediction).filter(status=Status.PROCESSING) if is_good else mine(prediction)
    ended["output_tokens"] = prediction.output_tokens
    if not ours.update(**ended, answer=payloads.without_large(answer)):
        return False
    payloads.put_output(prediction.pk, answer)
    return True


def _refuse(prediction: Prediction, hold: Hold) -> None:
    """Nobody pays for it any longer, so nobody gets it."""
    prediction.status = Status.FAILED
    payloads.drop_output(prediction.pk)
    Prediction.objects.filter(pk=prediction.pk).update(
        status=Status.FAILED, answer={"code": "hold_expired", "cost": _cost(hold, 0, prediction)}
    )


def _ended(status: str, now: datetime) -> dict[str, Any]:
    return {
        "status": status,
        "turn": None,
        "finished_at": now,
        "lease_owner": "",
        "lease_until": None,
        "expires_at": now + timedelta(hours=settings.PREDICTION_RETENTION_HOURS),
    }


def _report(prediction: Prediction, hold: Hold, ran: Ran | None) -> reports.Report:
    now = datetime.now(UTC)
    outcome, run_us = (ran.outcome, ran.run_us) if ran else (_canceled(prediction), 0)
    waited = int((now - hold.accepted_at).total_seconds() * 1e6) - run_us
    return reports.Report(
        hold_id=hold.pk,
        outcome=outcome,
        terms=reports.terms_of(
            hold.price_version_id, hold.share_version_id, prediction.model_version_id
        ),
        quantities={"call": 1, "row": prediction.rows, "byte": prediction.input_bytes}
        | prediction.tokens(),
        organization_id=hold.organization_id,
        reserved_nanos=hold.reserved_nanos,
        accepted_at=hold.accepted_at,
        completed_at=now,
        model_version_id=prediction.model_version_id,
        failure=_SHOWN.get(outcome, outcome),
        queue_us=max(waited, 0),
        run_us=run_us,
        batch_rows=ran.batch_rows if ran else 0,
        worker=ran.worker if ran else "",
    )


def _canceled(prediction: Prediction) -> str:
    """Return how a run ends that is canceled: a text without a character has not begun."""
    return "not_started" if prediction.output_tokens == 0 else "canceled"


def _answer(ran: Ran, report: reports.Report, cost: dict[str, Any]) -> dict[str, Any]:
    """Return the body that a synchronous call would have been given: a replay gives the same."""
    return {
        "id": str(ran.prediction.pk),
        "object": "prediction",
        "model": ran.prediction.model_version.path,
        "status": Status.SUCCEEDED.value,
        "output": ran.output,
        "metrics": {
            "rows": ran.prediction.rows,
            "batch_rows": ran.batch_rows,
            "queue_ms": report.queue_us / 1000,
            "run_ms": ran.run_us / 1000,
        },
        "cost": cost,
    }


def _cost(hold: Hold, nanos: int, prediction: Prediction) -> dict[str, Any]:
    return {
        "amount": decimal_text(nanos),
        "currency": hold.currency,
        "units": {"row": prediction.rows} | prediction.tokens(),
        "price_version": hold.price_version_id,
        "hold": str(hold.pk),
        "receipt": f"/v1/receipts/{hold.pk}",
    }


def cancel(prediction: Prediction) -> bool:
    """End it now: free if it has not begun, else by the outcome policy; False if it had ended.

    What runs already is run to its end, but nobody gets it and nobody charges it again.
    """
    waiting = Prediction.objects.filter(
        pk=prediction.pk, is_async=True, status__in=[Status.QUEUED, Status.STARTING]
    )
    if give_up(waiting, prediction, "canceled"):
        return True
    return _cancel_running(prediction)


def _cancel_running(prediction: Prediction) -> bool:
    hold = Hold.objects.get(pk=prediction.hold_id)
    report = _report(prediction, hold, None)
    with transaction.atomic():
        changed = Prediction.objects.filter(
            pk=prediction.pk, is_async=True, status=Status.PROCESSING
        ).update(**_ended(Status.CANCELED, report.completed_at))
        if not changed:
            return False
        crashes.point("async.row_ended")
        captured = holds.capture(report) and report.is_captured
        cost = _cost(hold, report.cost_nanos if captured else 0, prediction)
        Prediction.objects.filter(pk=prediction.pk).update(
            answer={"code": "canceled", "cost": cost}
        )
    _tell(prediction.pk, "canceled")
    return True


def give_up(rows: Any, prediction: Prediction, code: str) -> bool:
    """End a prediction that has no result, and give its money back.

    Args:
        rows: The prediction's row, in the states from which it may be given up.
    """
    hold = Hold.objects.get(pk=prediction.hold_id)
    status = Status.CANCELED if code == "canceled" else Status.FAILED
    answer = {"code": code, "cost": _cost(hold, 0, prediction)}
    with transaction.atomic():
        if not rows.update(**_ended(status, datetime.now(UTC)), answer=answer):
            return False
        crashes.point("async.row_ended")
        holds.void(hold.pk, code)
    crashes.point("async.committed")
    _tell(prediction.pk, code)
    return True


def _tell(prediction_id: UUID, code: str) -> None:
    """Say that it ended without a result."""
    ended = list(Prediction.objects.with_version().filter(pk=prediction_id))
    for one in ended:
        _count(one, code, one.finished_at or one.created_at)
        ran = one.finished_at - one.started_at if one.started_at and one.finished_at else NOTHING
        _trace(one, max(ran, NOTHING) // timedelta(microseconds=1))
    events.tell(ended)
