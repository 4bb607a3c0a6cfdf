"""Calls as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async

from billing import calls
from billing.calls import Call
from billing.models.holds import HoldQuerySet
from billing.money import decimal_text

BATCH = 1000
COLUMNS = [
    "when",
    "model",
    "source",
    "key",
    "outcome",
    "rows",
    "queue_us",
    "run_us",
    "cost_usd",
    "hold",
    "request_id",
]


async def csv_lines(holds: HoldQuerySet) -> AsyncIterator[str]:
    """Write all calls, newest first, a batch at a time: no transaction outlives its batch."""
    yield _csv([COLUMNS])
    before = None
    while True:
        found, before = await sync_to_async(calls.page)(holds, before=before, size=BATCH)
        yield _csv([_row(call) for call in found])
        if before is None:
            return


def _row(call: Call) -> list[str]:
    return [
        call.at.isoformat(),
        call.model,
        call.source,
        plain(call.key),
        "running" if call.is_open else call.outcome,
        str(call.rows),
        str(call.queue_us),
        str(call.run_us),
        "" if call.cost_nanos is None else decimal_text(call.cost_nanos),
        str(call.hold_id),
        plain(call.request_id),
    ]


def plain(text: str) -> str:
    """Keep a spreadsheet from reading a name that people chose as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _csv(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
