"""Starting, watching and counting real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What would point a start at something other than its own folder, or tie it to `make test`.
_FOREIGN = ("MERCATO_", "DATABASE_URL", "REDIS_URL", "CELERY_", "MAKE", "DJANGO_", "PYTEST_")


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Look until something holds; fail with `what` if it does not in time."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        pause.wait(0.05)


def free_port() -> int:
    """Return a port nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of_folder(data: Path) -> dict[int, str]:
    """Return the processes that were started for a data folder, pid → command line."""
    wanted = f"MERCATO_DATA={data}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command
        except OSError:
            continue
    return found


class Supervisor:
    """A supervisor in a process of its own, with its terminal in a file."""

    def __init__(self, data: Path, port: int, **env: str) -> None:
        self.data, self.port = data, port
        self.terminal = data.with_name(f"{data.name}-{port}-{time.monotonic_ns()}.terminal")
        given = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        with self.terminal.open("wb") as terminal:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maas_site.supervisor"],
                cwd=ROOT,
                env=given | {"MERCATO_DATA": str(data), "MERCATO_PORT": str(port)} | env,
                stdout=terminal,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what the terminal shows."""
        return self.terminal.read_text(encoding="utf-8")

    def await_output(self, text: str, seconds: float) -> None:
        """Wait until the terminal shows a text."""
        wait_until(
            lambda: text in self.output() or self.process.poll() is not None, seconds, self.output()
        )
        assert text in self.output(), self.output()

    def pids_of(self, command: str) -> list[int]:
        """Return the processes whose command line has a text, oldest first, without guards."""
        return sorted(
            pid
            for pid, line in of_folder(self.data).items()
            if command in line and "supervisor.child" not in line
        )

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(sig)

    def stop(self, sig: signal.Signals = signal.SIGTERM, *, seconds: float = 60) -> int:
        """Stop and return the exit status."""
        if self.process.poll() is None:
            self.send(sig)
        return self.process.wait(timeout=seconds)
