"""What the terminal shows."""

from __future__ import annotations

import contextlib
import threading
from typing import TextIO

_WIDTH = 28


class Console:
    """Lines, and at most one progress bar below them; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._bar = ""
        self._said: set[str] = set()

    def line(self, text: str = "") -> None:
        """Print one line."""
        with self._lock:
            self._write(f"{self._erase()}{text}\n{self._bar if self._stream.isatty() else ''}")

    def fact(self, name: str, value: str) -> None:
        """Print a name and what it is."""
        self.line(f"  {name:<11} {value}")

    def bar(self, fraction: float, text: str, detail: str = "") -> None:
        """Show progress: redrawn on a terminal; elsewhere a line for each new `text`."""
        filled = round(max(0.0, min(fraction, 1.0)) * _WIDTH)
        drawn = f"  [{'█' * filled}{'░' * (_WIDTH - filled)}] {text}"
        with self._lock:
            if self._stream.isatty():
                erased = self._erase()
                self._bar = f"{drawn}{detail}"
                self._write(erased + self._bar)
            elif text not in self._said:
                self._said.add(text)
                self._write(f"{drawn}\n")

    def end_bar(self) -> None:
        """Remove the progress bar."""
        with self._lock:
            self._write(self._erase())
            self._bar = ""

    def _erase(self) -> str:
        return "\r\033[2K" if self._bar and self._stream.isatty() else ""

    def _write(self, text: str) -> None:
        # The terminal may be gone; the work goes on.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
