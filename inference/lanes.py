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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from accounts.errors import MercatoError, OverloadedError
from accounts.keys import Caller
from billing import alerts, holds, writing
from billing.holds import Admission
from billing.quotes import Promise
from billing.reservations import Reservation
from inference import dispatch, routing
from inference.answers import Answer
from inference.metrics import counting, families
from inference.metrics.counting import CallTimes
from inference.metrics.flushing import Reading
from inference.runtime import batches, tensors
from inference.traffic import copying
from inference.turns import Turns
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
    # When the request arrived, and when it was put into its lane: by `time.perf_counter_ns`.
    began_ns: int = 0
    queued_ns: int = field(default_factory=time.perf_counter_ns)

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


class Carried(NamedTuple):
    """A batch that is over: when it left its lane, and how long what followed took, in µs."""

    gathered_ns: int
    admit: int
    queue: int
    run: int
    capture: int
    requests: int
    header: bytes

    def times(self, request: Request) -> CallTimes:
        """Return where the time of one of its requests went until now."""
        queued_ns = request.queued_ns
        return CallTimes(
            (queued_ns - (request.began_ns or queued_ns)) // 1000,
            (self.gathered_ns - queued_ns) // 1000,
            *self[1:],
        )


def _carried(
    gathered_ns: int, admitted_ns: int, admitted: Sequence[Admitted], reply: Reply
) -> Carried:
    """Take the time of a batch that came back now, and count it."""
    admit = (admitted_ns - gathered_ns) // 1000
    # Measured here alone: clocks of two machines differ by more than this takes.
    queue = max(counting.since(admitted_ns) - reply.run_us - reply.capture_us, 0)
    shared = (admit, queue, reply.run_us, reply.capture_us)
    model = admitted[0].request.served.model_path
    counting.event(counting.Batch(model, len(admitted), reply.batch_rows, *shared))
    return Carried(gathered_ns, *shared, len(admitted), counting.shared_header(*shared))


def _lost(gathered_ns: int, admitted_ns: int, requests: int) -> Carried:
    """Take the time of a batch that no worker has answered."""
    admit = (admitted_ns - gathered_ns) // 1000
    return Carried(gathered_ns, admit, counting.since(admitted_ns), 0, 0, requests, b"")


def _trace(request: Request, carried: Carried) -> None:
    """Keep where the time of a call went that failed; that of others is kept with the answer."""
    times = carried.times(request)
    counting.event(counting.Trace(request.hold_id, (*times[:6], 0), times.requests))


# One thread per lane that is busy; they wait for the database and the worker most of the time.
_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="lane")
# Lanes of models that no worker has loaded: each waits for as long as that takes, and however many
# they are, the others have their threads.
_cold_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="cold-lane")
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


def readings() -> Iterator[Reading]:
    """Tell how many requests wait in this process, and how long, by model."""
    for lane in list(_lanes.values()):
        found = lane.waiting()
        if found is not None:
            number, oldest = found
            labels = (oldest.served.model_path,)
            yield families.LANE_WAITING.name, labels, number
            yield families.LANE_OLDEST.name, labels, counting.since(oldest.queued_ns) / 1e6


class Lane:
    """The queue of one version in one process, with as many batches in flight as workers pay."""

    def __init__(self) -> None:
        self._waiting: Turns[Request] = Turns(settings.LANE_MAX_WAITING)
        self._lock = threading.Lock()
        self._in_flight = 0

    def submit(self, request: Request) -> None:
        """Add a request; if no more are in flight than may be, it leaves at once."""
        with self._lock:
            if not self._waiting.put(request.caller.organization_id, request):
                raise OverloadedError("Too many requests wait for this model.")
            if self._in_flight and self._in_flight >= routing.width(request.served.version_id):
                return
            self._in_flight += 1
        self._begin(request.served.version_id)

    def waiting(self) -> tuple[int, Request] | None:
        """Return how many wait, and the one that has waited longest; None if none does."""
        with self._lock:
            heads = self._waiting.heads()
            oldest = min(heads, key=lambda request: request.queued_ns, default=None)
            return (len(self._waiting), oldest) if oldest else None

    def _begin(self, version_id: int) -> None:
        threads = _threads_of(version_id)
        threads.submit(self._run, threads, version_id)

    def _run(self, threads: ThreadPoolExecutor, version_id: int) -> None:
        """Run batches while any wait; once the model is loaded, or no longer, in other threads."""
        while self._run_next():
            if _threads_of(version_id) is not threads:
                self._begin(version_id)
                return

    def _run_next(self) -> bool:
        """Run a batch; False if nothing waits."""
        gathered: list[Request] = []
        try:
            # What arrives while others write leaves with this batch.
            with writing.turn():
                gathered = self._gather()
                if not gathered:
                    return False
                admission = admit(gathered)
            outcomes = finish(gathered, admission)
        except (DatabaseError, InterfaceError):
            logger.warning("lane", exc_info=True)
            connection.close()
            gathered = gathered or self._gather()
            outcomes = [OverloadedError("The books cannot be reached.")] * len(gathered)
        except Exception:  # the lane's edge: every caller must be answered
            logger.exception("lane")
            outcomes = [MercatoError("Something went wrong on our side.")] * len(gathered)
        _resolve(gathered, outcomes)
        copying.offer(gathered, outcomes)
        return bool(gathered)

    def _gather(self) -> list[Request]:
        """Take this worker's part of what has gathered, up to the rows of one batch."""
        with self._lock:
            width = routing.width(self._waiting.first().served.version_id) if self._waiting else 0
            if self._in_flight > width:
                self._in_flight -= 1
                return []
            part = -(-len(self._waiting) // width)
            gathered: list[Request] = []
            rows = 0
            while len(gathered) < part:
                rows += self._waiting.first().input.rows
                if gathered and rows > settings.LANE_MAX_ROWS:
                    break
                gathered.append(self._waiting.take())
            return gathered


def _threads_of(version_id: int) -> ThreadPoolExecutor:
    return _threads if routing.is_warm(version_id) else _cold_threads


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


class Admittance(NamedTuple):
    """What became of a batch's requests before it left: refused, or admitted."""

    refused: dict[UUID, Outcome]
    admitted: list[Admitted]
    gathered_ns: int


def admit(requests: Sequence[Request]) -> Admittance:
    """Set the money of a batch's requests aside."""
    gathered_ns = time.perf_counter_ns()
    reservations: list[Reservation | MercatoError] = [_prepare(request) for request in requests]
    refused = dict[UUID, Outcome]()
    admitted: list[Admitted] = []
    answers = iter(_reserve([one for one in reservations if isinstance(one, Reservation)]))
    for request, reservation in zip(requests, reservations, strict=True):
        if isinstance(reservation, MercatoError):
            refused[request.hold_id] = reservation
            continue
        admission = next(answers)
        if isinstance(admission, MercatoError):
            refused[request.hold_id] = admission
        else:
            admitted.append(Admitted(request, reservation, admission))
    return Admittance(refused, admitted, gathered_ns)


def finish(requests: Sequence[Request], admittance: Admittance) -> list[Outcome]:
    """Dispatch what was admitted and await it; returns an outcome per request, in order."""
    outcomes = admittance.refused
    if admittance.admitted:
        outcomes |= _dispatch(admittance.admitted, admittance.gathered_ns)
    return [outcomes[request.hold_id] for request in requests]


def _reserve(reservations: Sequence[Reservation]) -> Sequence[Admission | MercatoError]:
    """Set the money aside; without a database nothing runs and nothing is charged."""
    if not reservations:
        return []
    try:
        outcomes = holds.reserve_many(reservations, is_synced=False)
    except (DatabaseError, InterfaceError):
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
            quantities={"call": 1, "row": request.input.rows, "byte": request.input_bytes}
            | request.input.tokens(),
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


def _dispatch(admitted: Sequence[Admitted], gathered_ns: int) -> dict[UUID, Outcome]:
    admitted_ns = time.perf_counter_ns()
    items = [_item(one.request, one.reservation) for one in admitted]
    batch = Batch(
        version_id=admitted[0].request.served.version_id,
        items=items,
        arrays=batches.join([one.request.input.arrays for one in admitted]),
    )
    outcome = dispatch.run(secrets.token_hex(12), batch)
    if isinstance(outcome, MercatoError):
        lost = _lost(gathered_ns, admitted_ns, len(admitted))
        for one in admitted:
            _trace(one.request, lost)
        return {one.request.hold_id: outcome for one in admitted}
    carried = _carried(gathered_ns, admitted_ns, admitted, outcome)
    return _answers(admitted, items, outcome, carried)


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
        input_tokens=request.input.input_tokens,
    )


def _answers(
    admitted: Sequence[Admitted], items: Sequence[Item], reply: Reply, carried: Carried
) -> dict[UUID, Outcome]:
    parts = batches.split(reply.arrays, succeeded_rows(items, reply.results))
    if not parts:
        parts = [{}] * len(items)
    found: dict[UUID, Outcome] = {}
    for place, (request, reservation, admission) in enumerate(admitted):
        failure = dispatch.failure_of(reply.results[place], reservation.hold_id)
        if failure:
            _trace(request, carried)
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
            start_us=reply.start_us[place],
            cost_nanos=reply.results[place].cost_nanos,
            currency=reservation.currency,
            price_version_id=reservation.price_version_id,
            admission=admission,
            times=carried.times(request),
            input_tokens=request.input.input_tokens,
        )
    return found
