"""`make test`: the whole suite on SQLite and PostgreSQL at once, and one closing line for both.

Each database has two runs side by side: the tests of this process, which compute, and those that
start the site, which wait for it. What needs neither database runs when the first of them has
ended. The runs share nothing: each has a data folder, a database and a Valkey of its own; the site
on PostgreSQL takes `TEST_REDIS_URL` if it is set.

PostgreSQL is `TEST_DATABASE_URL`, or a server of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests import postgresql

# Tests that do not touch the site's database through Django run once, on SQLite.
_AGAIN = "not browser and not once"
# Name, title, marks, whether on PostgreSQL; in the order in which they begin.
_RUNS = (
    ("sqlite-live", "SQLite, the running site", "(live or browser) and not once", False),
    ("postgresql-live", "PostgreSQL, the running site", f"live and {_AGAIN}", True),
    ("sqlite", "SQLite", f"not live and {_AGAIN}", False),
    ("postgresql", "PostgreSQL", f"not live and {_AGAIN}", True),
    ("once", "Without the site's database", "once", False),
)
# More at once would take no less time on two cores, and tests wait only so long for the site.
_AT_ONCE = 4


class Run:
    """One pytest, with its output in a file."""

    def __init__(self, folder: Path, name: str, title: str, marks: str, url: str | None) -> None:
        self.title = title
        self.report = folder / f"{name}.xml"
        self._output = folder / f"{name}.txt"
        pytest = [sys.executable, "-m", "pytest", f"--junitxml={self.report}", "-m", marks]
        self._command = [*pytest, *sys.argv[1:]]
        self._environment = _environment(folder, name, url)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Run it to its end; returns the exit status."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output
            )
        return self._process.wait()

    def end(self) -> None:
        """End it where it is."""
        if self._process is not None:
            self._process.terminate()

    def tell(self, status: int) -> int:
        """Print what it said; returns the exit status that counts."""
        print(f"== {self.title}", flush=True)
        with self._output.open(errors="replace") as output:
            shutil.copyfileobj(output, sys.stdout)
        # No test has these marks: with arguments there may be none.
        return 0 if status == 5 and sys.argv[1:] else status

    def count(self) -> Counter[str]:
        """Return how many tests ended how."""
        if not self.report.exists():
            return Counter(errors=1)
        counts: Counter[str] = Counter()
        for suite in ET.parse(self.report).getroot().iter("testsuite"):  # noqa: S314  (our own file)
            number = {
                kind: int(suite.get(kind, "0"))
                for kind in ("tests", "failures", "errors", "skipped")
            }
            counts["failed"] += number["failures"]
            counts["errors"] += number["errors"]
            counts["skipped"] += number["skipped"]
            counts["passed"] += number["tests"] - sum(list(number.values())[1:])
        return counts


def _environment(folder: Path, name: str, url: str | None) -> dict[str, str]:
    # Hundreds of processes start: each would compile our sources again.
    left_out = ["DATABASE_URL", "MAKE", "PYTHONDONTWRITEBYTECODE"]
    if name != "postgresql-live":
        left_out.append("TEST_REDIS_URL")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(tuple(left_out))}
    environment["TEST_STATIC"] = str(folder)
    environment["TEST_DATABASE_SUFFIX"] = name.partition("-")[2]
    if url:
        environment["DATABASE_URL"] = url
        # Nothing here has to outlive the machine.
        environment["PGOPTIONS"] = "-c synchronous_commit=off"
    return environment


def main() -> int:
    """Run the suite twice; returns 0 if every test passed."""
    started = time.monotonic()
    counts: Counter[str] = Counter()
    statuses = []
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="mercato-test-")))
        url = os.environ.get("TEST_DATABASE_URL")
        if not url:
            url = ending.enter_context(postgresql.server(folder / "postgresql.log", fsync="off"))
        threads = ending.enter_context(ThreadPoolExecutor(_AT_ONCE))
        begun = []
        for name, title, marks, is_postgresql in _RUNS:
            run = Run(folder, name, title, marks, url if is_postgresql else None)
            ending.callback(run.end)
            begun.append((run, threads.submit(run.run)))
        # Interrupted, what has not begun does not begin.
        ending.callback(threads.shutdown, wait=False, cancel_futures=True)
        for run, status in begun:
            statuses.append(run.tell(status.result()))
            counts += run.count()
    told = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    told += [f"{counts[kind]} {kind}" for kind in ("errors", "skipped") if counts[kind]]
    print(f"{', '.join(told)} in {time.monotonic() - started:.2f}s", flush=True)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
