"""The processes of the site: what they are, and starting them again when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maas_site.supervisor.config import BASE_DIR, Config
from maas_site.supervisor.console import Console
from maas_site.supervisor.logs import LogFile, is_loud, pump

_FIRST_WAIT = 0.5
# With the start itself, the site is back in 30 s however often a child was killed before.
_LONGEST_WAIT = 10.0
# A child that ran this long was healthy: its next crash starts the back-off anew.
_HEALTHY_SECONDS = 60.0
_LOUD_LINES = 5


@dataclass(frozen=True, slots=True)
class Spec:
    """One child: its command and how it wants to be treated."""

    name: str
    command: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    # Seconds it gets to end by itself when the supervisor was killed.
    grace: float = 5.0
    # Files that must not outlive it.
    remove: Sequence[Path] = ()
    # Whether warnings in its log are shown on the terminal.
    is_loud: bool = True


def predict_names(config: Config) -> list[str]:
    """Return the names of the predict workers: `predict`, `predict-2`, …"""
    more = range(2, config.predict_workers + 1)
    return ["predict", *(f"predict-{number}" for number in more)]


def site(config: Config) -> dict[str, Spec]:
    """Return the children that make up the site, by name."""
    celery = [sys.executable, "-m", "celery", "-A"]
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    gateway = [sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop"]
    gateway += ["--workers", "2", "--host", config.host, "--port", str(config.port)]
    gateway += ["--backlog", "2048", "--no-ws", "--no-access-log", "--log-level", "warning"]
    gateway += ["--respawn-failed-workers", "--respawn-interval", "0.5"]
    gateway += ["--workers-kill-timeout", "10", "maas_site.asgi:application"]
    predict = [*celery, "maas_site.celery:predict", "worker", "-P", "threads", "-c", "4"]
    predict += ["--prefetch-multiplier", "128", "-Q", f"predict.{config.predict_pool}"]
    jobs = [*celery, "maas_site.celery:app", "worker", "-P", "prefork", "-c", "1"]
    jobs += ["-Q", f"job.{config.job_pool}"]
    # Several threads: mail or a webhook that waits for somebody must not hold up the books.
    light = [*celery, "maas_site.celery:app", "worker", "-P", "threads", "-c", "4"]
    light += ["-Q", "light", "-B", "-s", str(config.data / "beat" / "schedule")]
    level = os.environ.get("MERCATO_LOG_LEVEL", "WARNING")
    one_thread = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    specs = [
        Spec("gateway", gateway),
        # Small models: threads inside one call cost more than they bring.
        *(
            Spec(name, [*predict, *quiet, "-n", f"predict-{number}@%h"], one_thread)
            for number, name in enumerate(predict_names(config), start=1)
        ),
        Spec("jobs", [*jobs, *quiet, "-n", "job-1@%h"]),
        # It is told to settle every second: only what goes wrong is worth a line.
        Spec(
            "light", [*light, *quiet, "-n", "light-1@%h"], one_thread | {"MERCATO_LOG_LEVEL": level}
        ),
    ]
    return {spec.name: spec for spec in specs}


def environment(config: Config) -> dict[str, str]:
    """Return the environment that all children share."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shared = {
        "MERCATO_DATA": str(config.data),
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return given | shared


class Child:
    """One process behind its guard."""

    def __init__(
        self, spec: Spec, *, config: Config, lock_handle: int, console: Console, log: LogFile
    ) -> None:
        self.spec = spec
        self._config = config
        self._lock_handle = lock_handle
        self._console = console
        self.log = log
        self._guard: subprocess.Popen[bytes] | None = None
        self._pumps: list[threading.Thread] = []
        self._started_at = 0.0
        self._wait = _FIRST_WAIT
        self._crashes = 0
        self._shown = 0
        # When it may start again; None while it runs or when it is not wanted.
        self.start_at: float | None = None

    def start(self, take: Callable[[str], None] | None = None) -> None:
        """Start the process; `take` gets the lines it writes to its standard output."""
        self.start_at = None
        self._started_at = time.monotonic()
        self._shown = 0
        guard = [sys.executable, "-S", "-m", "maas_site.supervisor.child"]
        guard += ["--grace", str(self.spec.grace), "--lock", str(self._config.lock)]
        guard += ["--lock-handle", str(self._lock_handle)]
        for path in self.spec.remove:
            guard += ["--remove", str(path)]
        self._guard = subprocess.Popen(
            [*guard, "--", *self.spec.command],
            cwd=BASE_DIR,
            env=environment(self._config) | self.spec.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if take else subprocess.STDOUT,
            pass_fds=[self._lock_handle],
            # Ctrl-C is for the supervisor; it decides in which order the children end.
            start_new_session=True,
        )
        outputs = [(self._guard.stdout, take or self._note), (self._guard.stderr, self._note)]
        self._pumps = [pump(stream, sink) for stream, sink in outputs if stream]

    def _note(self, line: str) -> None:
        self.log.write(line)
        if self.spec.is_loud and is_loud(line) and self._shown < _LOUD_LINES:
            self._shown += 1
            self._console.line(f"  {self.spec.name}: {line}")

    def is_running(self) -> bool:
        """Whether the process, or its guard, still lives."""
        return self.ended() is None and self._guard is not None

    @property
    def pid(self) -> int | None:
        """The guard's pid while it runs."""
        return self._guard.pid if self._guard and self._guard.poll() is None else None

    def ended(self) -> int | None:
        """Return the exit status of a process that has ended, once all it wrote is read."""
        if self._guard is None or self._guard.poll() is None:
            return None
        for thread in self._pumps:
            thread.join(timeout=5)
        if self._guard.stdin:
            self._guard.stdin.close()
        status = self._guard.returncode
        self._guard = None
        return status if status >= 0 else 128 - status

    def plan_restart(self, status: int) -> None:
        """Say that the process ended, and set when it starts again."""
        now = time.monotonic()
        if now - self._started_at > _HEALTHY_SECONDS:
            self._wait, self._crashes = _FIRST_WAIT, 0
        self._crashes += 1
        self.start_at = now + self._wait
        self._console.line(
            f"  {self.spec.name} ended ({describe(status)}) and starts again in "
            f"{self._wait:g} s. Log: {self.log.path}"
        )
        if self._crashes == 3:
            for line in self.log.last:
                self._console.line(f"  {self.spec.name}: {line}")
        self._wait = min(self._wait * 2, _LONGEST_WAIT)

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to the guard: SIGTERM to drain, SIGQUIT to end at once."""
        self.start_at = None
        if self._guard and self._guard.poll() is None:
            self._guard.send_signal(sig)


def describe(status: int) -> str:
    """Put an exit status into words."""
    if status > 128:
        try:
            return f"killed by {signal.Signals(status - 128).name}"
        except ValueError:
            pass
    return f"exit status {status}"
