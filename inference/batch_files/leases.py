"""Who may run a chunk of a file: claim, renew, finish, give back, and the sweep.

As with trainings, every change is a conditional UPDATE that names the attempt, the fencing token:
a worker that was taken for dead and comes back changes nothing, and charges nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.db.models.functions import Now

from billing import crashes, holds
from billing.ids import uuid7
from billing.models import Hold
from billing.reports import Report
from inference import placing
from inference.batch_files import announcing, doorbell, events, orders
from inference.connections import PREDICT_DB, redis_client
from inference.models import BatchChunk, BatchFile
from inference.wire import heartbeat_key

Status, State = BatchFile.Status, BatchChunk.State
# A chunk that has lost so many workers is not given to another one: its rows fail.
MAX_LOSSES = 3
# How long one that is paused waits before it tries again.
RETRY_SECONDS = 30
_TRIES = 5
# Room for the rows of a chunk below one hold's id.
_HOLD_ROOM = 1 << 16

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """The chunk is somebody else's by now, or the file has ended."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one attempt of a chunk."""

    batch: BatchFile
    chunk: BatchChunk

    def hold_id(self, place: int) -> UUID:
        """Return the id of the hold of the chunk's row at a place."""
        assert self.chunk.first_hold is not None
        return UUID(int=self.chunk.first_hold.int + place)


def from_now(seconds: float) -> ExpressionWrapper[Any]:
    """Return an instant by the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def claim(owner: str, labels: Mapping[str, str]) -> Lease | None:
    """Take the next chunk of the file that has waited longest; None if none waits.

    Args:
        labels: What the worker can do; versions that need more are left to others.
    """
    elsewhere = placing.elsewhere(labels)
    waiting = BatchChunk.objects.filter(batch=OuterRef("pk"), state=State.WAITING)
    may_run = Q(status=Status.PROCESSING) | Q(status=Status.PAUSED, retry_at__lte=Now())
    for _ in range(_TRIES):
        files = BatchFile.objects.filter(may_run).filter(Exists(waiting))
        files = files.exclude(model_version__in=elsewhere)
        batch = (
            files.select_related("organization", "api_key", "model_version__model__owner")
            .defer("row_errors")
            .order_by(F("claimed_at").asc(nulls_first=True), "pk")
            .first()
        )
        if batch is None:
            return None
        if not _may_try(batch):
            continue
        chunk = BatchChunk.objects.filter(batch=batch, state=State.WAITING).order_by("number")[:1]
        lease = _take(batch, chunk[0], owner) if chunk else None
        if lease is not None:
            return lease
    return None


def _may_try(batch: BatchFile) -> bool:
    """Count a look at the file; of those that would try a paused one at once, one may."""
    mine = BatchFile.objects.filter(pk=batch.pk, status=batch.status)
    if batch.status == Status.PAUSED:
        mine = mine.filter(retry_at__lte=Now())
        return bool(mine.update(claimed_at=Now(), retry_at=from_now(RETRY_SECONDS)))
    return bool(mine.update(claimed_at=Now()))


def _take(batch: BatchFile, chunk: BatchChunk, owner: str) -> Lease | None:
    first_hold = UUID(int=uuid7().int // _HOLD_ROOM * _HOLD_ROOM)
    taken = BatchChunk.objects.filter(
        pk=chunk.pk, state=State.WAITING, attempt=chunk.attempt
    ).update(
        state=State.RUNNING,
        attempt=chunk.attempt + 1,
        lease_owner=owner,
        lease_until=from_now(settings.BATCH_LEASE_SECONDS),
        first_hold=first_hold,
    )
    if not taken:
        return None
    chunk.attempt += 1
    chunk.first_hold = first_hold
    crashes.point("batch_file.claimed")
    return Lease(batch, chunk)


def _mine(lease: Lease) -> Any:
    return BatchChunk.objects.filter(
        pk=lease.chunk.pk, attempt=lease.chunk.attempt, state=State.RUNNING
    )


def holds_until() -> datetime:
    """Return until when the holds of a chunk are kept: longer than any lease."""
    return datetime.now(UTC) + timedelta(seconds=2 * settings.BATCH_LEASE_SECONDS + 60)


def renew(lease: Lease) -> None:
    """Stay the one who runs the chunk.

    Raises:
        LeaseLostError: That is over, or nobody wants it any more.
    """
    running = BatchFile.objects.filter(pk=lease.batch.pk, status__in=BatchFile.RUNNING)
    until = from_now(settings.BATCH_LEASE_SECONDS)
    if not running.exists() or not _mine(lease).update(lease_until=until):
        raise LeaseLostError
    _open_holds(lease.chunk).update(expires_at=holds_until())


def _open_holds(chunk: BatchChunk) -> Any:
    if chunk.first_hold is None:
        return Hold.objects.none()
    end = UUID(int=chunk.first_hold.int + chunk.rows)
    return Hold.objects.filter(pk__gte=chunk.first_hold, pk__lt=end, state=Hold.State.AUTHORISED)


def finish(lease: Lease, reports: Sequence[Report], *, succeeded: int, result_bytes: int) -> None:
    """End a chunk and charge its rows, in one transaction: all of it, or nothing.

    Raises:
        LeaseLostError: Somebody else has it, the file has ended, or a hold has; nothing changed.
    """
    with transaction.atomic():
        # The file's row first, so that a cancel comes before all this, or after.
        is_wanted = BatchFile.objects.filter(pk=lease.batch.pk, status__in=BatchFile.RUNNING)
        if not is_wanted.update(expires_at=orders.until()):
            raise LeaseLostError
        done = _mine(lease).update(
            state=State.DONE,
            lease_owner="",
            lease_until=None,
            succeeded=succeeded,
            cost_nanos=sum(report.cost_nanos for report in reports if report.is_captured),
            result_bytes=result_bytes,
        )
        if not done or not all(holds.capture_many(reports)):
            raise LeaseLostError
        crashes.point("batch_file.charged")
    crashes.point("batch_file.finished")
    complete(lease.batch.pk)
    events.ring(lease.batch.pk)


def complete(batch_id: UUID) -> bool:
    """End a file whose chunks are all done; whoever sees the last one, and once."""
    undone = BatchChunk.objects.filter(batch=OuterRef("pk")).exclude(state=State.DONE)
    with transaction.atomic():
        ended = BatchFile.objects.filter(
            ~Exists(undone), pk=batch_id, status__in=BatchFile.RUNNING
        ).update(
            status=Status.SUCCEEDED,
            finished_at=Now(),
            error_code="",
            error_message="",
            expires_at=orders.until(),
        )
        if ended:
            announcing.ended(batch_id)
    return bool(ended)


def give_back(lease: Lease) -> None:
    """Let another worker run the chunk; its open holds are ended, no loss is counted."""
    _open_holds(lease.chunk).update(
        state=Hold.State.VOIDED, failure="not_run", finished_at=datetime.now(UTC)
    )
    _mine(lease).update(state=State.WAITING, lease_owner="", lease_until=None)


def lose(chunk: BatchChunk) -> bool:
    """Note that a chunk's worker died; it waits again, and its open holds are ended."""
    _open_holds(chunk).update(
        state=Hold.State.VOIDED, failure="worker_lost", finished_at=datetime.now(UTC)
    )
    lost = BatchChunk.objects.filter(pk=chunk.pk, attempt=chunk.attempt, state=State.RUNNING)
    return bool(
        lost.update(state=State.WAITING, losses=F("losses") + 1, lease_owner="", lease_until=None)
    )


def pause(batch_id: UUID, code: str, message: str) -> bool:
    """Let a file wait; it tries again by itself."""
    with transaction.atomic():
        was_running = BatchFile.objects.filter(pk=batch_id, status=Status.PROCESSING).update(
            status=Status.PAUSED
        )
        BatchFile.objects.filter(pk=batch_id, status=Status.PAUSED).update(
            error_code=code, error_message=message[:500], retry_at=from_now(RETRY_SECONDS)
        )
        if was_running:
            announcing.paused(batch_id)
    events.ring(batch_id)
    return bool(was_running)


def resume(batch: BatchFile) -> None:
    """Note that a paused file runs again."""
    if batch.status == Status.PAUSED:
        BatchFile.objects.filter(pk=batch.pk, status=Status.PAUSED).update(
            status=Status.PROCESSING, error_code="", error_message="", retry_at=None
        )
        events.ring(batch.pk)


def fail(batch_id: UUID, code: str, message: str) -> bool:
    """End a file; what is done stays and is paid, what is under way is not charged."""
    with transaction.atomic():
        ended = (
            BatchFile.objects.filter(pk=batch_id)
            .exclude(status__in=BatchFile.TERMINAL)
            .update(
                status=Status.FAILED,
                error_code=code,
                error_message=message[:500],
                finished_at=Now(),
                expires_at=orders.until(),
            )
        )
        if ended:
            announcing.ended(batch_id)
    events.ring(batch_id)
    return bool(ended)


def sweep() -> None:
    """Put right what dead workers and lost rings left behind; may run twice."""
    running = BatchChunk.objects.filter(state=State.RUNNING)
    late = Q(lease_until__lt=Now()) | Q(lease_owner__in=_dead(running))
    for chunk in running.filter(late):
        logger.warning("Chunk %s lost its worker %s.", chunk, chunk.lease_owner)
        lose(chunk)
    checking = BatchFile.objects.filter(status=Status.CHECKING)
    checking.filter(lease_owner__in=_dead(checking)).update(lease_until=None, lease_owner="")
    # Who checked it died before it could start it.
    for batch in BatchFile.objects.filter(status=Status.READY, starts_itself=True, error_code=""):
        orders.start_by_itself(batch)
    for batch_id in BatchFile.objects.filter(status__in=BatchFile.RUNNING).values_list("pk"):
        complete(batch_id[0])
    if checking.exists() or BatchFile.objects.filter(status__in=BatchFile.RUNNING).exists():
        doorbell.ring()


def _dead(rows: Any) -> Iterable[str]:
    """Return the owners whose heart has stopped; none while Redis cannot be asked."""
    owners = set(rows.exclude(lease_owner="").values_list("lease_owner", flat=True))
    try:
        client = redis_client(PREDICT_DB)
        return [owner for owner in owners if not client.exists(heartbeat_key(owner))]
    except redis.RedisError:
        return []


def forget() -> int:
    """End what was never started or paid for, and remove what is not kept any longer."""
    due = BatchFile.objects.filter(expires_at__lt=Now())
    waiting = due.filter(status__in=(Status.READY, Status.PAUSED, Status.CHECKING))
    for batch_id in waiting.values_list("pk", flat=True):
        fail(batch_id, "expired", "It was not started, or not paid for, in time.")
    removed = 0
    for batch in due.filter(status__in=BatchFile.TERMINAL)[:100]:
        orders.delete(batch)
        removed += 1
    return removed
