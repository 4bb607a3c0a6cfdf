"""The supervisor: from an empty folder to a site that answers, and back to nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from maas_site.supervisor import children, lock, ports, process, valkey
from maas_site.supervisor.children import Child, Spec
from maas_site.supervisor.config import BASE_DIR, Config
from maas_site.supervisor.console import Console
from maas_site.supervisor.errors import StartError, StopRequested
from maas_site.supervisor.logs import LogFile
from maas_site.supervisor.wake import Wake

# How long the children of a killed supervisor may need to notice and end.
_PREDECESSOR_SECONDS = 20.0
_VALKEY_SECONDS = 60.0
_READY_SECONDS = 120.0
_DRAIN_SECONDS = 30.0
_KILL_SECONDS = 15.0
_TICK = 0.5
# Who ends together: first those that take work, then those they need, the broker last.
_FIRST, _LAST = {"gateway", "jobs", "prepare", "models"}, {"valkey"}


def main(console: Console) -> int:
    """Run the site until it is told to stop; returns the exit status."""
    try:
        Supervisor(Config.read(), console).run()
    except ImproperlyConfigured as error:
        console.line(f"Cannot start: {error}")
        return 2
    except StartError as error:
        console.line(f"Cannot start: {error}")
        return 1
    return 0


class Supervisor:
    """Owns the data folder and every process of the site."""

    def __init__(self, config: Config, console: Console) -> None:
        self._config = config
        self._console = console
        self._wake = Wake()
        self._children: dict[str, Child] = {}
        self._logs: dict[str, LogFile] = {}
        self._lock_handle = -1

    def run(self) -> None:
        """Start everything, watch it, and stop it when asked.

        Raises:
            StartError: The site cannot be started; nothing is left running.
        """
        # What the site writes is for its owner only; the children inherit it.
        os.umask(0o077)
        process.adopt_orphans()
        if "MAKELEVEL" in os.environ:
            # Whoever kills `make` means us.
            process.die_with_parent(signal.SIGTERM)
        self._wake.listen()
        try:
            self._take_folder()
            self._check_port()
            self._start()
            while True:
                self._tick()
        except StopRequested:
            self._console.end_bar()
            self._console.line("Stopping: running work is finished first, again Ctrl-C ends it.")
        finally:
            self._stop()

    # Steps of the start --------------------------------------------------------------------

    def _take_folder(self) -> None:
        data = self._config.data
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            data.chmod(0o700)
            (data / "beat").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"{data} cannot be the data folder ({error.strerror}). "
                "Set MERCATO_DATA to a folder of yours."
            ) from error
        mine = lock.Holder(
            pid=os.getpid(),
            since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            address=self._config.public_url,
        )
        until = time.monotonic() + _PREDECESSOR_SECONDS
        while (handle := lock.acquire(self._config.lock, mine)) is None:
            held = lock.holder(self._config.lock)
            if held and (held.is_running or time.monotonic() > until):
                raise StartError(
                    f"{data} is in use by pid {held.pid} since {held.since}; "
                    f"the site is at {held.address}. Stop it with `kill {held.pid}`, "
                    "or set MERCATO_DATA to another folder."
                )
            if time.monotonic() > until:
                raise StartError(f"{data} is in use by another process.")
            self._wake.pause(0.2)
        self._lock_handle = handle

    def _check_port(self) -> None:
        host, port = self._config.host, self._config.port
        try:
            if ports.is_free(host, port):
                return
            other = ports.next_free(host, port)
        except OSError as error:
            raise StartError(
                f"cannot listen on {host}:{port} ({error.strerror}). "
                "Set MERCATO_HOST and MERCATO_PORT."
            ) from error
        who = ports.holder(port)
        raise StartError(
            f"port {port} is in use{f' by {who}' if who else ''}. "
            f"Try: MERCATO_PORT={other or port + 1} make up"
        )

    def _start(self) -> None:
        self._console.line("Mercato")
        self._console.fact("data", str(self._config.data))
        self._start_valkey()
        done = self._prepare()
        self._console.fact("database", done["database"])
        specs = children.site(self._config)
        if done["models_missing"]:
            self._launch(specs.pop("light"))
            self._launch(specs.pop("jobs"))
            self._train()
        # What a prediction needs comes first; the rest would only compete with it for the start.
        for name in (*children.predict_names(self._config), "gateway"):
            self._launch(specs.pop(name))
        self._await_ready()
        for spec in specs.values():
            self._launch(spec)
        self._welcome(done)

    def _start_valkey(self) -> None:
        if self._config.has_redis:
            self._console.fact("redis", "REDIS_URL")
            return
        address = self._config.socket
        command = valkey.prepare(self._config.data, address)
        self._launch(Spec("valkey", command, grace=10.0, remove=[address], is_loud=False))
        until = time.monotonic() + _VALKEY_SECONDS
        while not valkey.answers(address):
            if time.monotonic() > until:
                raise StartError(f"Valkey does not answer. Log: {self._log('valkey').path}")
            self._tick(0.05)
        self._console.fact("redis", f"Valkey on {address}")

    def _prepare(self) -> dict[str, Any]:
        """Migrate, collect static files, seed: in a process of its own, which has Django."""
        answers: list[dict[str, Any]] = []
        status = self._run_to_end("prepare", [], lambda line: answers.append(json.loads(line)))
        if status or not answers:
            log = self._log("prepare")
            raise StartError(f"the site could not be prepared: {log.reason()}\nLog: {log.path}")
        return answers[-1]

    def _train(self) -> None:
        """Wait until the job worker has trained the models that are missing."""
        failed: list[str] = []

        def show(line: str) -> None:
            at = json.loads(line)
            failed[:] = at["failed"]
            done, total = at["done"], at["total"]
            text = f"training the first models: {done} of {total}"
            if at["running"]:
                text += f", now {at['running']}"
            share = (done + at["fraction"]) / max(total, 1)
            self._console.bar(share, text, f" {round(at['fraction'] * 100)} %")

        status = self._run_to_end("models", ["seed", "--watch"], show)
        self._console.end_bar()
        if status or failed:
            self._console.line(
                f"  Not every model could be trained ({', '.join(failed) or 'no answer'}); "
                f"the next start tries again. Log: {self._log('jobs').path}"
            )
        else:
            self._console.fact("models", "trained and published")

    def _await_ready(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        while (answer := self._readiness()) != "ready":
            if time.monotonic() > until:
                self._console.line(f"  Not ready after {_READY_SECONDS:.0f} s: {answer}")
                return
            self._tick(0.2)

    def _readiness(self) -> str:
        headers = {"Host": self._config.host_name}
        if self._config.public_url.startswith("https:"):
            # Speaks as the proxy in front does.
            headers["X-Forwarded-Proto"] = "https"
        connection = http.client.HTTPConnection(
            self._config.address.removeprefix("http://"), timeout=3
        )
        try:
            connection.request("GET", "/readyz", headers=headers)
            answer = connection.getresponse()
            return "ready" if answer.status == 200 else answer.read(500).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return f"the gateway does not answer ({error})"
        finally:
            connection.close()

    def _welcome(self, done: dict[str, Any]) -> None:
        self._console.line()
        self._console.line(f"Mercato is ready: {self._config.public_url}")
        first = done["first_run"]
        if first:
            self._console.fact("operator", first["email"])
            self._console.fact("password", first["password"])
            self._console.fact("API key", f"{first['api_key']}  (organization demo)")
            self._console.fact("kept in", done["first_run_file"])
        elif done["first_run_file"]:
            self._console.fact(
                "operator", f"name, password and first key: {done['first_run_file']}"
            )
        self._console.line("Ctrl-C stops everything.")

    # Children ------------------------------------------------------------------------------

    def _log(self, name: str) -> LogFile:
        if name not in self._logs:
            self._logs[name] = LogFile(self._config.data / "logs", name)
        return self._logs[name]

    def _launch(self, spec: Spec, take: Callable[[str], None] | None = None) -> Child:
        child = Child(
            spec,
            config=self._config,
            lock_handle=self._lock_handle,
            console=self._console,
            log=self._log(spec.name),
        )
        self._children[spec.name] = child
        child.start(take)
        return child

    def _run_to_end(self, name: str, arguments: list[str], take: Callable[[str], None]) -> int:
        command = [sys.executable, str(BASE_DIR / "manage.py"), *(arguments or [name])]
        child = self._launch(Spec(name, command, is_loud=False), take)
        while (status := child.ended()) is None:
            self._tick(0.1, but=name)
        del self._children[name]
        return status

    def _tick(self, seconds: float = _TICK, *, but: str = "") -> None:
        """Start what has ended again, and wait a moment."""
        for name, child in self._children.items():
            if name == but:
                continue
            status = child.ended()
            if status is not None:
                child.plan_restart(status)
                self._end_strays()
            if child.start_at is not None and child.start_at <= time.monotonic():
                child.start()
        self._wake.pause(seconds)

    def _end_strays(self) -> None:
        """End what fell to us because a guard was killed."""
        process.kill_children(spare={child.pid for child in self._children.values() if child.pid})

    # The end -------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._wake.is_stopping = True
        until = time.monotonic() + _DRAIN_SECONDS
        needed = {"light", *children.predict_names(self._config)}
        for names in (_FIRST, needed, _LAST):
            group = [child for name, child in self._children.items() if name in names]
            for child in group:
                child.signal(signal.SIGTERM)
            self._await_end(group, until, patient=False)
            for child in group:
                child.signal(signal.SIGQUIT)
            self._await_end(group, time.monotonic() + _KILL_SECONDS, patient=True)
        process.kill_children()
        for log in self._logs.values():
            log.close()
        if self._lock_handle >= 0:
            self._remove_socket()
            lock.release(self._config.lock, self._lock_handle)

    def _await_end(self, group: list[Child], until: float, *, patient: bool) -> None:
        """Wait for children to end; unless patient, a second wish to stop ends the waiting."""
        while any(child.is_running() for child in group) and time.monotonic() < until:
            if self._wake.stops > 1 and not patient:
                return
            self._wake.pause(0.1)

    def _remove_socket(self) -> None:
        address = self._config.socket
        if not self._config.has_redis and address.parent != self._config.data:
            address.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                address.parent.rmdir()
