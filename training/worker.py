"""Runs jobs: one claimed job, one runner process, watched from here until it has ended."""

from __future__ import annotations

import logging
import mmap
import os
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections

from training import doorbell, estimates, events, folders, leases, publishing
from training.errors import CALLER_FAILURES, FAILURES
from training.leases import Ending, Lease
from training.models import Job
from training.process import RunnerProcess

State = Job.State

_TICK_SECONDS = 0.25
_BEAT_SECONDS = 1.0
# The runner stops itself at the limit; this is for one that does not.
_LIMIT_GRACE_SECONDS = 30.0
_THREADS = 2
_LOG_BYTES = 4000
# Shared with the worker's main process, which hears the signal to shut down.
_draining = mmap.mmap(-1, 1)

logger = logging.getLogger(__name__)


def drain() -> None:
    """Make running jobs stop at their checkpoint and wait for another worker."""
    _draining[0] = 1


def is_draining() -> bool:
    """Whether this worker is shutting down."""
    return _draining[0] == 1


def owner() -> str:
    """Return a name for this worker that no other process ever has."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"


def run_next(pool: str) -> None:
    """Claim the next job of a pool and run it to its end; nothing to claim is fine."""
    if is_draining():
        return
    lease = leases.claim(pool, owner())
    if lease is None:
        return
    Supervision(lease).run()
    # Rings for what waits behind a long run have expired.
    if leases.is_waiting(pool):
        doorbell.ring(pool)


class Supervision:
    """One attempt of one job."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._job = Job.objects.select_related("organization").get(pk=lease.job_id)
        self._folder = folders.of(lease.job_id) / f"a{lease.attempt}"
        self._runner = RunnerProcess(self._spec(), self._folder)
        self._curve: list[dict[str, Any]] = []
        self._progress: dict[str, Any] = {}
        self._is_dirty = False
        self._final: dict[str, Any] | None = None
        self._is_lost = False
        self._parent = os.getppid()
        self._beat_at = 0.0
        self._renewed_at = time.monotonic()

    def _spec(self) -> dict[str, Any]:
        earlier = [
            self._folder.parent / f"a{number}" for number in range(self._lease.attempt - 1, 0, -1)
        ]
        return {
            "job": str(self._job.pk),
            "recipe": self._job.recipe,
            "data": self._job.data,
            "hyperparameters": self._job.hyperparameters,
            "folders": [str(self._folder), *map(str, earlier)],
            "datasets": [str(folder) for folder in estimates.dataset_folders()],
            "threads": _THREADS,
            "max_seconds": self._job.max_seconds,
            "may_ship": publishing.may_ship(self._job),
        }

    def run(self) -> None:
        """Watch the runner until it has ended, then write down how."""
        try:
            self._watch()
        finally:
            status = self._runner.close()
        if self._is_lost:
            logger.warning("Training %s belongs to another worker now.", self._lease.job_id)
            return
        self._end(status)

    def _watch(self) -> None:
        events.publish(self._job.pk, "state", {"state": State.STARTING})
        while not self._is_lost:
            found = self._runner.events(_TICK_SECONDS)
            if found is None:
                return
            for event in found:
                self._on_event(event)
            if self._final is not None:
                return
            if time.monotonic() - self._beat_at >= _BEAT_SECONDS:
                self._beat_at = time.monotonic()
                self._beat()

    def _on_event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in {"result", "stopped", "failed"}:
            self._final = event
            return
        if kind == "epoch":
            self._curve.append({name: value for name, value in event.items() if name in _POINT})
        elif kind == "resumed":
            self._curve = list(event["curve"])
        if "fraction" in event:
            self._progress = {name: event[name] for name in _PROGRESS if name in event}
        elif kind == "stage":
            self._progress = {**self._progress, "stage": event["stage"]}
        self._is_dirty = True
        events.publish(
            self._job.pk, kind, {name: value for name, value in event.items() if name != "event"}
        )

    def _beat(self) -> None:
        """Stay the owner, write progress, look for reasons to stop."""
        if is_draining() or os.getppid() != self._parent:
            self._runner.ask_to_stop("interrupted")
        if self._runner.seconds() > self._job.max_seconds + _LIMIT_GRACE_SECONDS:
            self._final = {"event": "stopped", "reason": "compute_limit_reached"}
        self._runner.enforce()
        try:
            self._beat_database()
        except Error as error:
            # The lease outlives a short absence of the database, the run does too.
            logger.warning("Training %s: %s", self._lease.job_id, error)
            close_old_connections()
            self._is_lost = time.monotonic() - self._renewed_at > settings.JOB_LEASE_SECONDS

    def _beat_database(self) -> None:
        if time.monotonic() - self._renewed_at > settings.JOB_LEASE_SECONDS / 4:
            self._is_lost = not leases.renew(self._lease)
            self._renewed_at = time.monotonic()
        if self._is_dirty:
            self._is_dirty = False
            self._is_lost = self._is_lost or not leases.write(
                self._lease, state=State.PROCESSING, progress=self._progress, curve=self._curve
            )
        if leases.is_cancel_requested(self._lease):
            self._runner.ask_to_stop("canceled")

    def _end(self, status: int) -> None:
        ending = self._ending()
        if self._curve:
            leases.write(self._lease, curve=self._curve, progress=self._progress)
        if ending is None:
            if self._is_interrupted():
                leases.release(self._lease)
            else:
                logger.error(
                    "The runner of training %s died (status %s).\n%s",
                    self._lease.job_id,
                    status,
                    self._log_tail(),
                )
                leases.lose(self._lease)
            events.publish(self._job.pk, "state", {"state": State.QUEUED})
            return
        if not leases.finish(self._lease, ending):
            logger.warning("Training %s belongs to another worker now.", self._lease.job_id)
            return
        self._after(ending)

    def _is_interrupted(self) -> bool:
        final = self._final or {}
        asked_to = is_draining() or os.getppid() != self._parent
        return final.get("reason") == "interrupted" or (not final and asked_to)

    def _ending(self) -> Ending | None:
        """Return how the job ended; None if it should run again."""
        final: Mapping[str, Any] = self._final or {}
        compute_ms = min(
            int(final.get("compute_ms", self._runner.seconds() * 1000)),
            self._job.max_seconds * 1000,
        )
        if final.get("event") == "result":
            metrics = {**final["result"]["metrics"], "runtime": _runtime(final["result"])}
            return Ending(State.SUCCEEDED, "succeeded", compute_ms, metrics=metrics)
        if final.get("event") == "failed":
            code = final["code"] if final["code"] in FAILURES else "internal_error"
            outcome = "model_error" if code in CALLER_FAILURES else "platform_error"
            return leases.failed(code, outcome=outcome, compute_ms=compute_ms)
        if final.get("reason") == "canceled":
            return Ending(State.CANCELED, "canceled", compute_ms, error_code="canceled")
        if final.get("reason") == "compute_limit_reached":
            return leases.failed(
                "compute_limit_reached", outcome="limit_reached", compute_ms=compute_ms
            )
        return None

    def _log_tail(self) -> str:
        """Return the end of what the runner wrote for the operator."""
        log = self._folder / "log"
        return log.read_bytes()[-_LOG_BYTES:].decode(errors="replace") if log.exists() else ""

    def _after(self, ending: Ending) -> None:
        if ending.error_code == "internal_error":
            logger.error("Training %s failed.\n%s", self._lease.job_id, self._log_tail())
        # Only the result of a run that succeeded is needed again.
        for old in self._folder.parent.iterdir():
            if old != self._folder or ending.state != State.SUCCEEDED:
                shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        events.publish(self._job.pk, "state", {"state": ending.state})
        self._job.refresh_from_db()
        if ending.state == State.SUCCEEDED and self._job.publish_as:
            publishing.publish_wanted(self._job)


_POINT = frozenset({"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"})
_PROGRESS = ("epoch", "epochs", "fraction", "seconds_left")


def _runtime(result: Mapping[str, Any]) -> str:
    return str(result["measurements"]["runtime"])
