"""`make test`: the whole suite on SQLite and PostgreSQL at once, and one closing line for both.

Each database has two runs side by side: the tests of this process, which compute, and those that
start the site, which wait for it. The four share nothing: each has a data folder, a database and
a Valkey of its own; the site on PostgreSQL takes `TEST_REDIS_URL` if it is set.

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
from contextlib import ExitStack
from pathlib import Path

from tests import postgresql

# Tests that do not touch the site's database through Django run once, on SQLite.
_AGAIN = "not browser and not once"
# Name, title, marks, whether on PostgreSQL. What takes longest is named first.
_RUNS = (
    ("sqlite-live", "SQLite, the running site", "live or browser or once", False),
    ("postgresql-live", "PostgreSQL, the running site", f"live and {_AGAIN}", True),
    ("sqlite", "SQLite", f"not live and {_AGAIN}", False),
    ("postgresql", "PostgreSQL", f"not live and {_AGAIN}", True),
)


class Run:
    """One pytest, with its output in a file."""

    def __init__(self, folder: Path, name: str, title: str, marks: str, url: str | None) -> None:
        self.title = title
        self.report = folder / f"{name}.xml"
        self._output = folder / f"{name}.txt"
        command = [sys.executable, "-m", "pytest", f"--junitxml={self.report}", "-m", marks]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *sys.argv[1:]],
                env=_environment(folder, name, url),
                stdout=output,
                stderr=output,
            )

    def tell(self) -> int:
        """Wait for the end and print what it said; returns the exit status."""
        status = self.process.wait()
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
        runs = []
        for name, title, marks, is_postgresql in _RUNS:
            run = Run(folder, name, title, marks, url if is_postgresql else None)
            ending.callback(run.process.terminate)
            runs.append(run)
        for run in reversed(runs):
            statuses.append(run.tell())
            counts += run.count()
    told = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    told += [f"{counts[kind]} {kind}" for kind in ("errors", "skipped") if counts[kind]]
    print(f"{', '.join(told)} in {time.monotonic() - started:.2f}s", flush=True)
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
