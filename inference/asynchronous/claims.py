"""Who may run a prediction: claim a batch, begin it, keep it; the row decides.

Every change asks for the status and the attempt it starts from: a worker that was thought dead and
comes back changes nothing. Instants of leases are the database's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Q
from django.db.models.functions import Coalesce, Now

from billing import crashes
from inference.models import Prediction
from inference.models.predictions import PredictionQuerySet

Status = Prediction.Status
# Requests of one batch, however few rows they have.
MAX_REQUESTS = 64
# A prediction that has cost so many workers their lives is not given to another one.
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of some predictions of one version, in order of their turns.

    Attributes:
        has_more: Whether others of the same version wait.
    """

    version_id: int
    owner: str
    predictions: list[Prediction]
    has_more: bool = False

    @property
    def attempt(self) -> int:
        """The fencing token; the same for all: one that is tried again is alone."""
        return self.predictions[0].attempt


def from_now(seconds: float) -> ExpressionWrapper[Any]:
    """Return an instant of the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def claim(owner: str, where: Q | None = None) -> Claim | None:
    """Take who is next, and those of the same version that fit into a batch; None: nobody waits.

    Args:
        where: Which predictions this worker may run; None: all.
    """
    allowed = _waiting().filter(where or Q())
    # Outside the transaction: on SQLite one takes the lock that all writers need.
    if allowed.first() is None:
        return None
    with transaction.atomic():
        head = _locked(allowed).first()
        if head is None:
            return None
        found = _with(head)
        rows = _batch(found)
        ids = [one.pk for one in rows]
        Prediction.objects.filter(pk__in=ids, status=Status.QUEUED).update(
            status=Status.STARTING,
            turn=None,
            attempt=F("attempt") + 1,
            lease_owner=owner,
            lease_until=from_now(settings.ASYNC_LEASE_SECONDS),
        )
        crashes.point("async.claimed")
    for one in rows:
        one.attempt += 1
        one.status, one.turn = Status.STARTING, None
    return Claim(rows[0].model_version_id, owner, rows, has_more=len(found) > len(rows))


def _waiting() -> PredictionQuerySet:
    waiting = Prediction.objects.filter(turn__isnull=False, start_by__gt=Now())
    return waiting.order_by("turn", "hold_id")


def _locked(rows: PredictionQuerySet) -> PredictionQuerySet:
    """Lock rows, but do not wait for those that another worker is about to take."""
    # SQLite has one writer at a time: the transaction is the lock.
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, of=("self",))
    return rows


def _with(head: Prediction) -> list[Prediction]:
    """Lock those who come with the first: of its version, in order."""
    same = _waiting().filter(model_version_id=head.model_version_id)
    return list(_locked(same.with_version())[: MAX_REQUESTS + 1])


def _batch(found: Sequence[Prediction]) -> list[Prediction]:
    if found[0].attempt:
        # It may be what killed its worker: nobody else is to die with it.
        return [found[0]]
    chosen: list[Prediction] = []
    rows = 0
    for one in found[:MAX_REQUESTS]:
        rows += one.rows
        if one.attempt or (chosen and rows > settings.ASYNC_MAX_ROWS):
            break
        chosen.append(one)
    return chosen


def begin(claimed: Claim) -> list[Prediction]:
    """Say that the model runs now; returns those that are still to be run."""
    ours = Prediction.objects.filter(
        pk__in=[one.pk for one in claimed.predictions], attempt=claimed.attempt
    )
    ours.filter(status=Status.STARTING).update(
        status=Status.PROCESSING, started_at=Coalesce(F("started_at"), Now())
    )
    # The attempt is ours alone: what has it and runs was begun here.
    begun = set(ours.filter(status=Status.PROCESSING).values_list("pk", flat=True))
    crashes.point("async.begun")
    found = [one for one in claimed.predictions if one.pk in begun]
    for one in found:
        one.status = Status.PROCESSING
    return found


def mine(prediction: Prediction) -> PredictionQuerySet:
    """Return the row, if the attempt that was claimed still runs."""
    return Prediction.objects.filter(
        pk=prediction.pk, attempt=prediction.attempt, status__in=Prediction.RUNNING
    )


class Keeper:
    """Renews the leases of a claim while its batch runs; a context manager."""

    def __init__(self, claimed: Claim) -> None:
        self._claim = claimed
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(settings.ASYNC_LEASE_SECONDS / 4):
                close_old_connections()
                self.renew()
        except DatabaseError:
            # Without the database the lease runs out, and the end would not be written either.
            return
        finally:
            connection.close()

    def renew(self) -> int:
        """Renew the leases; returns how many predictions still run."""
        return Prediction.objects.filter(
            pk__in=[one.pk for one in self._claim.predictions],
            lease_owner=self._claim.owner,
            status__in=Prediction.RUNNING,
        ).update(lease_until=from_now(settings.ASYNC_LEASE_SECONDS))
