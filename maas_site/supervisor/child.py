"""The guard of one child: `python -m maas_site.supervisor.child [options] -- command…`.

It stays between the supervisor and the command. When the supervisor ends, however it ends, the
guard's standard input closes: it asks the command to stop, and kills what is left of it and of
everything the command started. It passes SIGTERM on and kills at once on SIGQUIT.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from pathlib import Path

from maas_site.supervisor import lock, process

_QUIET = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)


class Guard:
    """Runs one command and leaves nothing of it behind."""

    def __init__(self, command: list[str], *, grace: float) -> None:
        self._command = command
        self._grace = grace
        self._deadline: float | None = None
        self._status: int | None = None
        self._pid = 0

    def run(self) -> int:
        """Run the command; returns its exit status, 128 + n if signal n ended it."""
        process.adopt_orphans()
        wake, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for sig in _QUIET:
            signal.signal(sig, lambda *_: None)
        self._pid = self._start()
        watched = [sys.stdin.fileno(), wake]
        while self._status is None and not self._is_late():
            left = None if self._deadline is None else self._deadline - time.monotonic()
            ready, _, _ = select.select(watched, [], [], None if left is None else max(left, 0))
            if wake in ready:
                self._signals(os.read(wake, 256))
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 64):
                watched.remove(sys.stdin.fileno())
                self._deadline = time.monotonic() + self._grace
                process.kill(self._pid, signal.SIGTERM)
            self._reap()
        process.kill_group(self._pid, signal.SIGKILL)
        process.kill_children()
        return 128 + signal.SIGKILL if self._status is None else self._status

    def _start(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setpgid(0, 0)
            process.die_with_parent(signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            for sig in (*_QUIET, signal.SIGPIPE):
                signal.signal(sig, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.execvp(self._command[0], self._command)  # noqa: S606  (a shell has no place here)
        except OSError as error:
            os.write(2, f"ERROR cannot start {self._command[0]}: {error}\n".encode())
        os._exit(127)

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGQUIT:
                self._deadline = time.monotonic()
            elif number in {signal.SIGTERM, signal.SIGINT}:
                process.kill(self._pid, signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Guard one command until it is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--lock-handle", type=int, default=-1)
    parser.add_argument("--remove", type=Path, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.lock_handle >= 0:
        os.set_inheritable(options.lock_handle, False)
    status = Guard(options.command, grace=options.grace).run()
    for path in options.remove:
        path.unlink(missing_ok=True)
    if options.lock_handle >= 0:
        lock.release(options.lock, options.lock_handle)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
