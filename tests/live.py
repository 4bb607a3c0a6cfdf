"""The site's processes, started once for all tests that need them."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from django.conf import settings
from django.db import connection

from billing import settlement
from inference.models import Worker
from tests.environment import DATA

ROOT = Path(__file__).resolve().parent.parent
_COMMANDS = {
    "gateway": "granian --interface asgi --workers 2 --loop uvloop --host 127.0.0.1 "
    "--port {port} --no-access-log maas_site.asgi:application",
    "predict": "celery -A maas_site.celery:predict worker -P threads -c 4 --prefetch-multiplier "
    "128 --without-gossip --without-mingle -Q predict.cpu -n predict@test -l WARNING",
    "predict-2": "celery -A maas_site.celery:predict worker -P threads -c 2 --prefetch-multiplier "
    "128 --without-gossip --without-mingle -Q predict.cpu -n predict-2@test -l WARNING",
    "job": "celery -A maas_site.celery:app worker -P prefork -c 1 -Q job.cpu -n job@test "
    "-l WARNING",
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def database_url() -> str:
    """Return the address of the test database, for other processes."""
    if connection.vendor == "sqlite":
        return f"sqlite:///{connection.settings_dict['NAME']}"
    base = os.environ["DATABASE_URL"].rpartition("/")[0]
    return f"{base}/{connection.settings_dict['NAME']}"


class Site:
    """Gateway and predict worker, as `make up` runs them."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._workers: list[Worker] = []
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def environment(self) -> dict[str, str]:
        """Return what the processes read."""
        return os.environ | {
            "DATABASE_URL": database_url(),
            "MERCATO_PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": "maas_site.settings",
        }

    def start(self) -> None:
        """Start what does not run, and wait until it serves."""
        if not any(settings.STATIC_ROOT.iterdir()):
            self._collect_static()
        Worker.objects.bulk_create(self._workers, ignore_conflicts=True)
        self.start_worker()
        self._start("gateway")
        self.wait_ready()

    def _collect_static(self) -> None:
        """Collect static files, or take what another run of the same suite has collected."""
        shared = Path(os.environ.get("TEST_STATIC", DATA))
        environment = self.environment() | {"MERCATO_DATA": str(shared)}
        with (shared / "collecting").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / "static" / "staticfiles.json").exists():
                command = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"]
                subprocess.run(command, cwd=ROOT, env=environment, check=True)
        if shared != DATA:
            shutil.copytree(shared / "static", settings.STATIC_ROOT, dirs_exist_ok=True)

    def start_worker(self, name: str = "predict", **environment: str) -> None:
        """Start a predict worker, `predict` or `predict-2`, if it does not run."""
        self._start(name, environment)

    def start_jobs(self) -> None:
        """Start the job worker if it does not run."""
        self._start("job")

    def _start(self, name: str, environment: dict[str, str] | None = None) -> None:
        running = self._processes.get(name)
        if running is not None and running.poll() is None:
            return
        program, *arguments = _COMMANDS[name].format(port=self.port).split()
        log = (DATA / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=ROOT,
            env=self.environment() | (environment or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until /readyz says that database, Redis and a predict worker are there."""
        self.wait_until(self._is_ready, seconds=90)

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_until(self, is_true: Callable[[], bool], *, seconds: float) -> None:
        """Wait until something is true of the running site; fails when it takes too long."""
        deadline = time.monotonic() + seconds
        while not is_true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not within {seconds} s.\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """Return the ends of the processes' logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(DATA.glob("*.log"))
        )

    def kill(self, name: str) -> None:
        """Kill a process as the machine would: SIGKILL, to the whole group."""
        process = self._processes[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def freeze(self, name: str) -> None:
        """Stop a process where it is: it neither works nor ends."""
        os.killpg(self._processes[name].pid, signal.SIGSTOP)

    def end(self, name: str) -> None:
        """Ask a process to end, if it runs, and wait until it has."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)

    def settle(self) -> int:
        """Book what is finished."""
        return settlement.settle()

    def keep_workers(self) -> None:
        """Keep the rows of those who work: they write them again only after seconds."""
        running = [one.pid for one in self._processes.values() if one.poll() is None]
        self._workers = list(Worker.objects.filter(pid__in=running, duty=Worker.Duty.ACTIVE))

    def stop(self) -> None:
        """Stop everything."""
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def predict(self, secret: str, body: bytes, **headers: str) -> httpx.Response:
        """Call POST /v1/predictions."""
        return self.client.post(
            "/v1/predictions",
            content=body,
            headers={
                "Authorization": f"Bearer {secret}",
                "Content-Type": "application/json",
                **headers,
            },
        )
