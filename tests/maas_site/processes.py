"""Starting, watching and counting real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What would point a start at something other than its own folder, or tie it to `make test`.
_FOREIGN = ("MERCATO_", "DATABASE_URL", "REDIS_URL", "CELERY_", "MAKE", "DJANGO_", "PYTEST_")


def wait_until(
    holds: Callable[[], object], seconds: float, what: str, *, every: float = 0.05
) -> None:
    """Look until something holds; fail with `what` if it does not in time."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        pause.wait(every)


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


def cpu_seconds(data: Path) -> float:
    """Return what the processes of a data folder, with those that ended, have computed."""
    ticks = 0
    for pid in of_folder(data):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # Fields 14 to 17 of the kernel's table: own and reaped children's, user and system.
        ticks += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def foreign_connections(data: Path) -> set[str]:
    """Return the addresses, off this machine, that processes of a data folder speak to."""
    inodes = {inode for pid in of_folder(data) for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        for fields in map(str.split, lines):
            address = fields[2].rpartition(":")[0]
            if fields[9] in inodes and not _is_here(address):
                found.add(f"{table} {fields[2]}")
    return found


def _sockets(pid: int) -> Iterator[str]:
    try:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(handle)
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")
    except OSError:
        return


def _is_here(address: str) -> bool:
    """Whether an address of the kernel's table is none, or a loopback one."""
    # Words of four bytes, lowest byte first; an IPv4 address may be the last word of an IPv6 one.
    last = address[-8:]
    return (
        set(address) == {"0"}
        or (last.endswith("7F") and set(address[:-8]) <= {"0", "F"})
        or address == f"{'0' * 24}01000000"
    )


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
