from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_site import environment
from maas_site.supervisor import children, lock, logs, ports, valkey
from maas_site.supervisor.config import Config
from maas_site.supervisor.console import Console
from tests.maas_site.processes import (
    ROOT,
    Supervisor,
    foreign_connections,
    free_port,
    of_folder,
    wait_until,
)

pytestmark = pytest.mark.once
ME = lock.Holder(pid=os.getpid(), since="now", address="http://127.0.0.1:1")


# The lock -----------------------------------------------------------------------------------


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    handle = lock.acquire(path, ME)

    assert handle is not None
    assert lock.acquire(path, ME) is None
    assert lock.holder(path) == ME
    lock.release(path, handle)
    assert not path.exists()


def test_the_lock_is_held_until_the_last_who_shares_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    handle = lock.acquire(path, ME)
    assert handle is not None
    shared = os.dup(handle)

    lock.release(path, handle)

    assert lock.acquire(path, ME) is None
    lock.release(path, shared)
    assert not path.exists()


def test_a_lock_file_left_behind_does_not_hold_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"pid": 1, "since": "then", "address": ""}', encoding="utf-8")

    handle = lock.acquire(path, ME)

    assert handle is not None
    assert lock.holder(path) == ME
    lock.release(path, handle)


# The guard ----------------------------------------------------------------------------------


GUARD = [sys.executable, "-S", "-m", "maas_site.supervisor.child"]


def guard(data: Path, script: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*GUARD, *options, "--", sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"MERCATO_DATA": str(data)},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


# A family: the command, its child, and a grandchild in a session of its own.
FAMILY = """
import signal, subprocess, sys
waits = [sys.executable, "-c", "import signal; signal.pause()"]
child = "import signal, subprocess; subprocess.Popen(%r, start_new_session=True); signal.pause()"
subprocess.Popen([sys.executable, "-c", child % waits])
signal.pause()
"""


def test_nothing_a_command_started_outlives_the_supervisor(tmp_path: Path) -> None:
    process = guard(tmp_path, FAMILY, "--grace", "0.2")
    assert process.stdin is not None
    wait_until(lambda: len(of_folder(tmp_path)) == 4, 10, "the family has started")

    process.stdin.close()

    process.wait(timeout=20)
    assert of_folder(tmp_path) == {}


def test_nothing_a_command_started_outlives_it(tmp_path: Path) -> None:
    process = guard(tmp_path, FAMILY)
    wait_until(lambda: len(of_folder(tmp_path)) == 4, 10, "the family has started")
    command = min(pid for pid in of_folder(tmp_path) if pid != process.pid)

    os.kill(command, signal.SIGKILL)

    assert process.wait(timeout=20) == 128 + signal.SIGKILL
    assert of_folder(tmp_path) == {}


def test_a_command_is_asked_to_stop_and_may_finish(tmp_path: Path) -> None:
    script = (
        "import signal, sys, pathlib\n"
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "while True: signal.pause()"
    )
    process = guard(tmp_path, script)
    wait_until((tmp_path / "up").exists, 10, "the command has started")

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=10) == 7


def test_a_command_that_does_not_stop_is_killed_on_sigquit(tmp_path: Path) -> None:
    script = (
        "import signal, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "while True: signal.pause()"
    )
    process = guard(tmp_path, script)
    wait_until((tmp_path / "up").exists, 10, "the command has started")

    process.send_signal(signal.SIGQUIT)

    assert process.wait(timeout=20) == 128 + signal.SIGKILL
    assert of_folder(tmp_path) == {}


def test_a_command_that_does_not_exist_says_so() -> None:
    process = subprocess.Popen(
        [*GUARD, "--", "no-such-program"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None

    assert process.wait(timeout=20) == 127
    assert b"cannot start no-such-program" in process.stderr.read()


def test_files_of_a_command_are_removed_after_it(tmp_path: Path) -> None:
    left = tmp_path / "socket"
    left.touch()
    process = guard(tmp_path, "pass", "--remove", str(left))

    process.wait(timeout=20)

    assert not left.exists()


# Ports --------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server


def test_a_port_in_use_is_noticed_with_its_holder(listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    assert not ports.is_free("127.0.0.1", port)
    assert f"pid {os.getpid()} (" in ports.holder(port)


def test_a_free_port_is_free() -> None:
    assert ports.is_free("127.0.0.1", free_port())


def test_a_start_on_a_used_port_names_the_next_step(
    listener: socket.socket, tmp_path: Path
) -> None:
    port = listener.getsockname()[1]
    started = Supervisor(tmp_path / "var", port)

    assert started.process.wait(timeout=30) == 1
    assert f"port {port} is in use by pid {os.getpid()}" in started.output()
    assert "make up" in started.output()
    assert not (tmp_path / "var" / "lock").exists()


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    started = Supervisor(tmp_path / "var", 1, MERCATO_PORT="eighty")

    assert started.process.wait(timeout=30) == 2
    assert "MERCATO_PORT must be a whole number" in started.output()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    started = Supervisor(tmp_path / "file", free_port())

    assert started.process.wait(timeout=30) == 1
    assert "Set MERCATO_DATA" in started.output()


# Logs and terminal --------------------------------------------------------------------------


def test_a_log_names_its_child_and_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 100)
    log = logs.LogFile(tmp_path / "logs", "gateway")

    for number in range(20):
        log.write(f"line {number} {'x' * 60}")
    log.close()

    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["gateway.log", "gateway.log.1", "gateway.log.2", "gateway.log.3"]
    assert " gateway: line 19 " in (tmp_path / "logs" / "gateway.log.1").read_text()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["a.b.OperationalError: no server", "\tIs it running?", ""], "no server"),
        (["a.b.FirstError: one", "a.b.SecondError: two"], "two"),
        (["stopped", ""], "stopped"),
        ([], "it said nothing"),
    ],
)
def test_a_log_knows_why_its_child_failed(tmp_path: Path, lines: list[str], reason: str) -> None:
    log = logs.LogFile(tmp_path / "logs", "prepare")
    for line in lines:
        log.write(line)

    assert log.reason() == reason
    log.close()


def test_a_database_that_does_not_answer_stops_the_start(tmp_path: Path) -> None:
    url = f"postgres://postgres@127.0.0.1:{free_port()}/none"
    started = Supervisor(tmp_path / "var", free_port(), DATABASE_URL=url)

    assert started.process.wait(timeout=60) == 1
    assert "the site could not be prepared: connection" in started.output()
    assert "refused" in started.output()
    assert of_folder(tmp_path / "var") == {}
    assert not (tmp_path / "var" / "valkey.sock").exists()


@pytest.mark.parametrize(
    ("line", "loud"),
    [
        ("2026-01-01 00:00:00,000 INFO celery ready", False),
        ("2026-01-01 00:00:00,000 WARNING celery slow", True),
        ("[2026-01-01 00:00:00,000: ERROR/MainProcess] failed", True),
        ("Traceback (most recent call last):", True),
        ("SecurityWarning: something about warnings", False),
    ],
)
def test_only_warnings_and_errors_reach_the_terminal(line: str, loud: bool) -> None:
    assert logs.is_loud(line) is loud


def test_a_bar_without_a_terminal_is_a_line_per_text() -> None:
    stream = io.StringIO()
    console = Console(stream)

    for text in ("half", "half", "more", "half"):
        console.bar(0.5, text, " 7 %")
    console.line("note")
    console.end_bar()

    assert stream.getvalue().count("half") == 1
    assert stream.getvalue().endswith("more\nnote\n")


def test_an_exit_status_is_put_into_words() -> None:
    assert children.describe(1) == "exit status 1"
    assert children.describe(137) == "killed by SIGKILL"


# Who speaks to whom -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_foreign"),
    [("127.0.0.1", False), ("::1", False), ("203.0.113.9", True), ("2001:db8::9", True)],
)
def test_a_connection_to_another_machine_would_be_noticed(
    tmp_path: Path, address: str, is_foreign: bool
) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    script = (
        "import pathlib, signal, socket\n"
        f"one = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n"
        "try: one.connect(('%s', 53))\n"
        "except OSError: one = None\n"
        "pathlib.Path(%r).write_text(str(one is not None))\n"
        "signal.pause()"
    ) % (address, str(tmp_path / "up"))
    process = guard(tmp_path, script, "--grace", "0")
    assert process.stdin is not None
    wait_until(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text(), 10, "it is up")
    # A machine without a route cannot connect at all: nothing to notice there.
    is_connected = (tmp_path / "up").read_text() == "True"

    found = foreign_connections(tmp_path)

    process.stdin.close()
    process.wait(timeout=20)
    assert bool(found) is (is_foreign and is_connected)


# Settings -----------------------------------------------------------------------------------


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    data = tmp_path / ("x" * 120)

    address = environment.valkey_socket(data)

    assert len(str(address)) < 100
    assert address == environment.valkey_socket(data)
    assert address != environment.valkey_socket(data / "other")


def test_valkey_listens_on_its_socket_only(tmp_path: Path) -> None:
    text = valkey.configuration(tmp_path, tmp_path / "valkey.sock")

    assert "port 0\n" in text
    assert "maxmemory-policy noeviction\n" in text
    assert "appendonly yes\n" in text


def test_every_address_is_reached_locally(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, address in [
        ("127.0.0.1", "http://127.0.0.1:18149"),
        ("0.0.0.0", "http://127.0.0.1:18149"),  # noqa: S104
        ("::", "http://[::1]:18149"),
    ]:
        monkeypatch.setenv("MERCATO_HOST", host)
        monkeypatch.setenv("MERCATO_PORT", "18149")

        assert Config.read().address == address
