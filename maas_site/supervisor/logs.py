"""Logs of the children: all of it in a file, warnings also on the terminal."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

MAX_BYTES = 5 * 1024 * 1024
KEEP = 3
_MAX_LINE = 64 * 1024
_LOUD = re.compile(r"\b(WARNING|ERROR|CRITICAL|FATAL)\b|^Traceback")
# The line of a traceback that names the exception: it starts in the first column.
_RAISED = re.compile(r"^[\w.]+\.\w+: ")


class LogFile:
    """`<folder>/<name>.log`, renamed to `.1`, `.2`, … when it has grown."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / f"{name}.log"
        self._name = name
        self._lock = threading.Lock()
        self._file = self.path.open("ab")
        self.last: deque[str] = deque(maxlen=5)

    def write(self, text: str) -> None:
        """Add one line, with the time and the child's name; JSON stays JSON."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        line = text if text.startswith('{"') else f"{now} {self._name}: {text}"
        with self._lock:
            if self._file.closed:
                return
            self._file.write(f"{line}\n".encode())
            self._file.flush()
            self.last.append(text)
            if self._file.tell() > MAX_BYTES:
                self._rotate()

    def reason(self) -> str:
        """Return what the child said last, without the name of a Python exception before it."""
        lines = [line for line in self.last if line.strip()]
        raised = [line for line in lines if _RAISED.match(line)]
        said = (raised or lines or ["it said nothing"])[-1]
        return _RAISED.sub("", said).strip()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEEP - 1, 0, -1):
            older = self.path.with_suffix(f".log.{number}")
            if older.exists():
                older.rename(self.path.with_suffix(f".log.{number + 1}"))
        self.path.rename(self.path.with_suffix(".log.1"))
        self._file = self.path.open("ab")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def is_loud(line: str) -> bool:
    """Whether a line of a log is worth the operator's attention."""
    return bool(_LOUD.search(line))


def pump(stream: IO[bytes], take: Callable[[str], None]) -> threading.Thread:
    """Hand every line of a stream to `take`, in a thread that ends with the stream."""

    def read() -> None:
        with stream:
            while line := stream.readline(_MAX_LINE):
                take(line.decode("utf-8", "replace").rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
