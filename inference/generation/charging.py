"""Ends the holds of texts: told first, charged then, confirmed last."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db import DatabaseError, connection

from billing import holds
from billing.reports import Report, terms_of
from inference.connections import PREDICT_DB, redis_client
from inference.generation.texts import Text
from inference.generation.wire import EVENT, Charged, End, Event, order_key, pack_event, pieces_key

logger = logging.getLogger(__name__)
_SHOWN = {"succeeded": "", "not_started": "canceled"}


def finish(texts: Sequence[Text], worker_name: str) -> None:
    """End the holds of texts that have ended, in one transaction.

    The gateway is told how before the charge: if this process dies after it, the gateway knows
    what was paid for. If it dies before, the gateway ends the hold, and nothing is charged.

    Raises:
        redis.RedisError: The gateways cannot be told; nothing is charged before they are.
    """
    reports = [report(text, worker_name, len(texts)) for text in texts]
    _tell([(text, _end(text, one)) for text, one in zip(texts, reports, strict=True)])
    ours = _capture(reports)
    _tell([(text, Charged(is_ours)) for text, is_ours in zip(texts, ours, strict=True)])


def report(text: Text, worker_name: str, together: int) -> Report:
    """Return what a text used."""
    order = text.order
    now = datetime.now(UTC)
    run_us = (time.perf_counter_ns() - text.started_ns) // 1000
    waited = int((now - order.accepted_at).total_seconds() * 1e6) - run_us
    return Report(
        hold_id=order.hold_id,
        outcome=text.outcome,
        terms=terms_of(order.price_version_id, order.share_version_id, order.version_id),
        quantities={
            "call": 1,
            "row": 1,
            "byte": order.input_bytes,
            "input_token": len(order.prompt),
            "output_token": text.output_tokens,
        },
        organization_id=order.organization_id,
        reserved_nanos=order.reserved_nanos,
        accepted_at=order.accepted_at,
        completed_at=now,
        model_version_id=order.version_id,
        failure=_SHOWN.get(text.outcome, text.outcome),
        queue_us=max(waited, 0),
        run_us=run_us,
        batch_rows=together,
        worker=worker_name,
    )


def _end(text: Text, found: Report) -> End:
    cost = found.cost_nanos if found.is_captured else 0
    return End(text.outcome, text.reason, text.output_tokens, cost)


def _capture(reports: Sequence[Report]) -> list[bool]:
    try:
        return holds.capture_many(reports)
    except DatabaseError:
        # The connection may be gone, with or without the commit; a hold ends once.
        logger.warning("charge: trying again", exc_info=True)
        connection.close()
        return holds.capture_many(reports)


def _tell(told: Sequence[tuple[Text, Event]]) -> None:
    pipeline = redis_client(PREDICT_DB).pipeline(transaction=False)
    for text, event in told:
        key = pieces_key(text.order.order_id)
        pipeline.xadd(key, {EVENT: pack_event(event)})
        pipeline.pexpire(key, settings.PREDICT_TIMEOUT_SECONDS * 3000)
        if isinstance(event, Charged):
            pipeline.unlink(order_key(text.order.order_id))
    pipeline.execute()
