"""A runner's process, as its supervisor sees it: events out, a wish to stop in, signals."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_CHUNK = 65_536
# One event; a result carries ten small images.
_MAX_LINE = 4_000_000
# What the runner may know of this process's environment: no secret is among it.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV")
# After the wish to stop: to the end of a batch, then to the end of a signal handler.
_STOP_SECONDS, _TERMINATE_SECONDS = 10.0, 5.0

logger = logging.getLogger(__name__)


class RunnerProcess:
    """One freshly started runner in a process group of its own."""

    def __init__(self, spec: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "training.runner"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=_ROOT,
                env=_environment(folder),
                start_new_session=True,
            )
        self._buffer = b""
        self._asked_at: float | None = None
        self._terminated = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._tell({**spec, "parent": os.getpid()})

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    @property
    def _out(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def seconds(self) -> float:
        """Return how long it has run."""
        return time.monotonic() - self.started

    def events(self, timeout: float) -> Iterator[dict[str, Any]] | None:
        """Return what it has said, waiting a little; None once it has closed its side."""
        if not self._selector.select(timeout):
            return iter(())
        chunk = os.read(self._out, _CHUNK)
        if not chunk:
            return None
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if len(self._buffer) > _MAX_LINE:
            self.kill()
        return filter(None, map(_parsed, lines))

    def ask_to_stop(self, reason: str) -> None:
        """Ask it to end after the current batch; `enforce` does the rest."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._tell({"do": "stop", "reason": reason})

    def enforce(self) -> None:
        """Signal a runner that was asked to stop and does not."""
        if self._asked_at is None:
            return
        waited = time.monotonic() - self._asked_at
        if waited > _STOP_SECONDS + _TERMINATE_SECONDS:
            self.kill()
        elif waited > _STOP_SECONDS and not self._terminated:
            self._terminated = True
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def close(self) -> int:
        """Leave nothing behind; returns the exit status."""
        self.kill()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return self._process.wait()


def _environment(folder: Path) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {
        **passed,
        "PYTHONPATH": str(_ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "KERAS_HOME": str(folder),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # onnxruntime tells its makers of every session otherwise.
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        logger.warning("A runner wrote a line that is no event: %.200r", line)
        return None
    return event
