"""The process that trains: one spec in, JSON lines out. No Django, no database, no secrets.

Its supervisor (training/worker.py) writes the spec as the first line of stdin and may write
`{"do": "stop", "reason": …}` later; end of stdin means the supervisor is gone. On stdout come
events, then exactly one of `result`, `stopped`, `failed`, each with `compute_ms`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from training import limits, sandbox
from training.recipes import text_data
from training.recipes.data import DataUnavailableError
from training.recipes.execute import Plan, RecipeUnavailableError, execute
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import DivergedError, StoppedError
from training.recipes.measuring import ParityError

_STARTED = time.monotonic()
# CPU seconds per second of the limit: each thread counts.
_CPU_FACTOR = 8
_CPU_EXTRA = 120

# What went wrong → the code the tenant sees; docs/errors.md lists them.
CODES: dict[type[Exception], str] = {
    RecipeUnavailableError: "recipe_unavailable",
    DataUnavailableError: "data_unavailable",
    DivergedError: "training_diverged",
    ParityError: "export_mismatch",
    MemoryError: "out_of_memory",
}

logger = logging.getLogger(__name__)


class Channel:
    """The two pipes to the supervisor."""

    def __init__(self, source: IO[str], sink: IO[str]) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._reason = ""
        self._deadline = float("inf")

    def read_spec(self) -> dict[str, Any]:
        """Return the first line."""
        spec: dict[str, Any] = json.loads(self._source.readline())
        self._deadline = _STARTED + float(spec["max_seconds"])
        return spec

    def start_listening(self) -> None:
        """Hear in the background whether the run should stop."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            self.stop(str(json.loads(line).get("reason", "canceled")))
        # Nobody reads what this process would find out.
        os.kill(os.getpid(), signal.SIGKILL)

    def stop(self, reason: str) -> None:
        """Ask the run to end after the current batch."""
        self._reason = self._reason or reason

    def should_stop(self) -> str:
        """Return why the run must end, or nothing."""
        if not self._reason and time.monotonic() > self._deadline:
            return "compute_limit_reached"
        return self._reason

    def send(self, event: Mapping[str, Any]) -> None:
        """Write one event."""
        line = json.dumps({**event, "compute_ms": compute_ms()}, allow_nan=False)
        with self._lock:
            self._sink.write(line + "\n")
            self._sink.flush()


def compute_ms() -> int:
    """Return how long this process has worked."""
    return int((time.monotonic() - _STARTED) * 1000)


def plan_of(spec: Mapping[str, Any]) -> Plan:
    """Return the plan a spec describes."""
    return Plan(
        recipe=spec["recipe"],
        data=spec["data"],
        hyperparameters=Hyperparameters(**spec["hyperparameters"]),
        folders=[Path(folder) for folder in spec["folders"]],
        datasets=[Path(folder) for folder in spec["datasets"]],
        threads=int(spec["threads"]),
        may_ship=bool(spec["may_ship"]),
    )


def run(channel: Channel, spec: Mapping[str, Any]) -> None:
    """Run the spec and send how it ended."""
    from inference.runtime.sessions import open_session

    def open_model(runtime: str, path: Path) -> Any:
        return open_session(runtime, path, threads=1).run

    try:
        result = execute(plan_of(spec), channel.send, channel.should_stop, open_model)
    except StoppedError as stopped:
        channel.send({"event": "stopped", "reason": stopped.reason})
    except tuple(CODES) as error:
        code = next(code for kind, code in CODES.items() if isinstance(error, kind))
        channel.send({"event": "failed", "code": code, "message": str(error)[:300]})
    else:
        channel.send({"event": "result", "result": result})


def _shut_in(spec: Mapping[str, Any]) -> str:
    """Leave this process its own attempt to write and the code, data and checkpoints to read."""
    root = Path(__file__).resolve().parent.parent
    own, *earlier = (Path(folder) for folder in spec["folders"])
    own.mkdir(parents=True, exist_ok=True)
    code = [root / "training", root / "inference", *text_data.documents()]
    datasets = [Path(folder) for folder in spec["datasets"]]
    return sandbox.enter(read=[*code, *earlier, *datasets], write=[own], list_names=[root])


def _own_stdout() -> IO[str]:
    """Keep stdout for events: what libraries print goes to stderr."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(channel, "w", encoding="utf-8")


def main() -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    channel = Channel(sys.stdin, _own_stdout())
    spec = channel.read_spec()
    limits.die_with_parent(int(spec["parent"]))
    limits.limit(cpu_seconds=int(spec["max_seconds"]) * _CPU_FACTOR + _CPU_EXTRA)
    # Before any thread starts: a thread that runs already would stay outside.
    logger.info("In force: %s.", _shut_in(spec))
    channel.start_listening()
    signal.signal(signal.SIGTERM, lambda *_: channel.stop("interrupted"))
    try:
        run(channel, spec)
    except Exception:
        # The edge of the process: whatever it is, it is written down and the supervisor told.
        logger.exception("The run failed.")
        channel.send({"event": "failed", "code": "internal_error", "message": ""})
        return 1
    return 0


if __name__ == "__main__":
    # Threads of the frameworks may still run: leave without waiting for them.
    code = main()
    sys.stderr.flush()
    os._exit(code)
