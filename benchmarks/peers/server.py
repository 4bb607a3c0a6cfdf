"""One peer, started with one set of settings, and ended with all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import load
from benchmarks.peers import QUIET, Peer, Run
from benchmarks.peers.environments import python_of
from benchmarks.site import ROOT, free_port

_READY_SECONDS = 180
_END_SECONDS = 30


@contextmanager
def serving(peer: Peer, run: Run, onnx_file: str, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Start a peer; yields its port and the request to send.

    Raises:
        RuntimeError: It ended, or did not answer the request with 200 in time; has its log.
    """
    python = python_of(peer)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="peer-", dir="/tmp") as name:
        folder = Path(name)
        variables = {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MODEL": onnx_file,
            "FOLDER": name,
            "PORT": str(port),
            "WORKERS": str(run.workers),
        }
        arguments = [argument.format(port=port) for argument in peer.command]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [str(python), *arguments],
                cwd=folder,
                env=os.environ | variables | QUIET | run.options,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            request = load.post(peer.path, port, body)
            _await(process, port, request, folder / "log.txt")
            yield port, request
        finally:
            _end(process)


def _await(process: subprocess.Popen[bytes], port: int, request: bytes, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _answers(port, request):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text(errors="replace")[-3000:])
        time.sleep(0.5)


def _answers(port: int, request: bytes) -> bool:
    try:
        return load.run("127.0.0.1", port, request, 1, 0.0).statuses[200] == 1
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the first process to end, then end its whole session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
