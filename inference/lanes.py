"""Lanes: requests for one version gather while a batch is in flight, and leave together.

One lane per process and version. No timer: an idle lane sends a single request at once; while its
batch is away others gather; when it returns, what has gathered leaves. So the costs that come once
per batch (one admission transaction, one Celery task, one charge) are shared by all its requests.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from accounts.errors import MercatoError, OverloadedError
from accounts.keys import Caller
from billing import alerts, holds
from billing.holds import Admission, Reservation
from billing.quotes import Promise
from inference import dispatch
from inference.answers import Answer
from inference.runtime import batches, tensors
from inference.versions import Served
from inference.wire import Batch, Item, Reply, succeeded_rows

logger = logging.getLogger(__name__)
Outcome = Answer | MercatoError


@dataclass(frozen=True, slots=True)
class Request:
    """One call that waits for its answer."""

    caller: Caller
    served: Served
    input: tensors.Input
    source: str
    request_id: str
    accepted_at: datetime
    hold_id: UUID
    input_bytes: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer]
    # Set when the answer is stored.
    prediction_id: UUID | None = None
    # The most the caller will pay.
    ceiling_nanos: int | None = None
    quote: Promise | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Wake the caller, unless it has gone; only in the caller's loop."""
        if self.future.done():
            return
        if isinstance(outcome, MercatoError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Admitted(NamedTuple):
    """A request whose money is set aside."""

    request: Request
    reservation: Reservation
    admission: Admission


# One thread per lane that is busy; they wait for the database and the worker most of the time.
_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="lane")
_lanes: dict[int, Lane] = {}


def submit(request: Request) -> None:
    """Put a request into its version's lane; its future is resolved when it is done.

    Raises:
        OverloadedError: Too many requests wait already.
    """
    lane = _lanes.get(request.served.version_id)
    if lane is None:
        lane = _lanes.setdefault(request.served.version_id, Lane())
    lane.submit(request)


class Lane:
    """The queue of one version in one process, with one batch in flight."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._lock = threading.Lock()
        self._is_running = False

    def submit(self, request: Request) -> None:
        """Add a request; if nothing is in flight it leaves at once."""
        with self._lock:
            if len(self._waiting) >= settings.LANE_MAX_WAITING:
                raise OverloadedError("Too many requests wait for this model.")
            self._waiting.append(request)
            if self._is_running:
                return
            self._is_running = True
        _threads.submit(self._run)

    def _run(self) -> None:
        while gathered := self._gather():
            try:
                outcomes = run(gathered)
            except Exception:  # the lane's edge: every caller must be answered
                logger.exception("lane")
                outcomes = [MercatoError("Something went wrong on our side.")] * len(gathered)
            _resolve(gathered, outcomes)

    def _gather(self) -> list[Request]:
        """Take what has gathered, up to the rows of one batch; an empty lane stops running."""
        with self._lock:
            gathered: list[Request] = []
            rows = 0
            while self._waiting:
                rows += self._waiting[0].input.rows
                if gathered and rows > settings.LANE_MAX_ROWS:
                    break
                gathered.append(self._waiting.popleft())
            if not gathered:
                self._is_running = False
            return gathered


def _resolve(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
    """Wake the callers; one call into each event loop for the whole batch."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Request, Outcome]]] = {}
    for request, outcome in zip(requests, outcomes, strict=True):
        by_loop.setdefault(request.loop, []).append((request, outcome))
    for loop, pairs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake, pairs)


def _wake(pairs: Sequence[tuple[Request, Outcome]]) -> None:
    for request, outcome in pairs:
        request.resolve(outcome)


def run(requests: Sequence[Request]) -> list[Outcome]:
    """Admit, dispatch and await one batch; returns an outcome per request, in order."""
    reservations: list[Reservation | MercatoError] = [_prepare(request) for request in requests]
    outcomes = dict[UUID, Outcome]()
    admitted: list[Admitted] = []
    answers = iter(_reserve([one for one in reservations if isinstance(one, Reservation)]))
    for request, reservation in zip(requests, reservations, strict=True):
        if isinstance(reservation, MercatoError):
            outcomes[request.hold_id] = reservation
            continue
        admission = next(answers)
        if isinstance(admission, MercatoError):
            outcomes[request.hold_id] = admission
        else:
            admitted.append(Admitted(request, reservation, admission))
    if admitted:
        outcomes |= _dispatch(admitted)
    return [outcomes[request.hold_id] for request in requests]


def _reserve(reservations: Sequence[Reservation]) -> Sequence[Admission | MercatoError]:
    """Set the money aside; without a database nothing runs and nothing is charged."""
    if not reservations:
        return []
    try:
        outcomes = holds.reserve_many(reservations)
    except DatabaseError:
        # If the commit had happened all the same, the holds expire.
        logger.warning("admission", exc_info=True)
        connection.close()
        return [OverloadedError("The books cannot be reached. Nothing was charged.")] * len(
            reservations
        )
    alerts.note_refusals(outcomes)
    return outcomes


def _prepare(request: Request) -> Reservation | MercatoError:
    quote = request.quote
    try:
        return holds.prepare(
            request.caller,
            quote.plan if quote else request.served.terms_at(request.accepted_at).plan,
            share_version_id=quote.share_version_id if quote else request.served.share_version_id,
            quantities={"call": 1, "row": request.input.rows, "byte": request.input_bytes},
            source=request.source,
            accepted_at=request.accepted_at,
            expires_at=datetime.now(UTC) + timedelta(seconds=2 * settings.PREDICT_TIMEOUT_SECONDS),
            model_version_id=request.served.version_id,
            request_id=request.request_id,
            ceiling_nanos=request.ceiling_nanos,
            quote_id=quote.quote_id if quote else None,
            hold_id=request.hold_id,
        )
    except MercatoError as error:
        return error


def _dispatch(admitted: Sequence[Admitted]) -> dict[UUID, Outcome]:
    items = [_item(one.request, one.reservation) for one in admitted]
    batch = Batch(
        version_id=admitted[0].request.served.version_id,
        items=items,
        arrays=batches.join([one.request.input.arrays for one in admitted]),
    )
    outcome = dispatch.run(secrets.token_hex(12), batch)
    if isinstance(outcome, MercatoError):
        return {one.request.hold_id: outcome for one in admitted}
    return _answers(admitted, items, outcome)


def _item(request: Request, reservation: Reservation) -> Item:
    return Item(
        hold_id=reservation.hold_id,
        organization_id=reservation.organization_id,
        price_version_id=reservation.price_version_id,
        share_version_id=reservation.share_version_id,
        reserved_nanos=reservation.reserved_nanos,
        accepted_at=reservation.accepted_at,
        rows=request.input.rows,
        input_bytes=request.input_bytes,
        prediction_id=request.prediction_id,
        is_batch=request.input.is_batch,
    )


def _answers(
    admitted: Sequence[Admitted], items: Sequence[Item], reply: Reply
) -> dict[UUID, Outcome]:
    parts = batches.split(reply.arrays, succeeded_rows(items, reply.results))
    if not parts:
        parts = [{}] * len(items)
    found: dict[UUID, Outcome] = {}
    for place, (request, reservation, admission) in enumerate(admitted):
        failure = dispatch.failure_of(reply.results[place], reservation.hold_id)
        found[request.hold_id] = failure or Answer(
            prediction_id=request.prediction_id or reservation.hold_id,
            hold_id=reservation.hold_id,
            version_path=request.served.path,
            signature=request.served.signature,
            arrays=parts[place],
            is_batch=request.input.is_batch,
            rows=request.input.rows,
            batch_rows=reply.batch_rows,
            queue_us=reply.queue_us[place],
            run_us=reply.run_us,
            cost_nanos=reply.results[place].cost_nanos,
            currency=reservation.currency,
            price_version_id=reservation.price_version_id,
            admission=admission,
        )
    return found
