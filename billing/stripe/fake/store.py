"""Where the fake keeps its state: a file of its own, as a remote system would.

Gateway processes and workers share it, and it does not roll back with the site's database.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Body = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL,
    created INTEGER NOT NULL, label TEXT, due INTEGER, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_label ON objects (kind, label);
CREATE INDEX IF NOT EXISTS objects_due ON objects (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, created INTEGER NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, type TEXT NOT NULL,
    place INTEGER NOT NULL, due INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS faults (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, kind TEXT NOT NULL,
    remaining INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, key TEXT NOT NULL,
    params TEXT NOT NULL, status INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_BUSY_SECONDS = 20


class World:
    """The fake's state within one transaction."""

    def __init__(self, db: sqlite3.Connection, site: str) -> None:
        self.db = db
        self.site = site
        self.now = self.fact("frozen", 0) or wall_clock() + self.fact("offset", 0)

    def fact(self, name: str, default: int) -> int:
        """Return a number that was set, such as the clock's offset in seconds."""
        row = self.db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else int(row[0])

    def set_fact(self, name: str, value: int) -> None:
        """Remember a number."""
        self.db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def new_id(self, prefix: str) -> str:
        """Return an id that was never used, also not by a file that was deleted."""
        return f"{prefix}_{secrets.token_hex(9)}"

    def add(self, body: Body, *, label: str = "", due: int | None = None) -> Body:
        """Store a new object, made now."""
        body = {"created": self.now, "livemode": False, **body}
        self.db.execute(
            "INSERT INTO objects (id, kind, created, label, due, body) VALUES (?, ?, ?, ?, ?, ?)",
            (body["id"], body["object"], body["created"], label, due, json.dumps(body)),
        )
        return body

    def save(self, body: Body, *, due: int | None = None) -> Body:
        """Store a changed object; `due` is when time must look at it again."""
        self.db.execute(
            "UPDATE objects SET body = ?, due = ? WHERE id = ?", (json.dumps(body), due, body["id"])
        )
        return body

    def find(self, name: str, kind: str = "") -> Body | None:
        """Return the object of this id, if there is one of this kind."""
        row = self.db.execute(
            "SELECT body FROM objects WHERE id = ? AND (kind = ? OR ? = '')", (name, kind, kind)
        ).fetchone()
        return None if row is None else _load(row[0])

    def newest(
        self, kind: str, label: str = "", keep: Callable[[Body], bool] | None = None
    ) -> list[Body]:
        """Return the objects of a kind, newest first."""
        rows = self.db.execute(
            "SELECT body FROM objects WHERE kind = ? AND (label = ? OR ? = '') ORDER BY seq DESC",
            (kind, label, label),
        )
        found = [_load(row[0]) for row in rows]
        return [each for each in found if keep(each)] if keep else found

    def next_due(self, until: int) -> tuple[int, Body] | None:
        """Return what time must look at first, and when."""
        row = self.db.execute(
            "SELECT due, body FROM objects WHERE due <= ? ORDER BY due, seq LIMIT 1", (until,)
        ).fetchone()
        return None if row is None else (int(row[0]), _load(row[1]))


class Store:
    """The file. A connection lives for one transaction: safe with threads.

    One more stays open and idle: when the last one of a file closes, SQLite writes everything back,
    which takes forty times as long as a transaction. It must not live across a fork.
    """

    def __init__(self, path: Path, site: str) -> None:
        self.path = path
        self.site = site
        self._idle: sqlite3.Connection | None = None
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)

    def _stay_open(self) -> None:
        with self._guard:
            if self._idle is None:
                self._idle = sqlite3.connect(self.path, check_same_thread=False)
                self._idle.execute("SELECT 1 FROM facts").fetchall()
                _OPEN.add(self)

    def close(self) -> None:
        """Let the file go; the next transaction takes it up again."""
        with self._guard:
            if self._idle is not None:
                self._idle.close()
                self._idle = None

    @contextmanager
    def transaction(self) -> Iterator[World]:
        """Open one short transaction that holds the write lock from its beginning."""
        self._stay_open()
        with closing(self._connect()) as db:
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield World(db, self.site)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


_OPEN: weakref.WeakSet[Store] = weakref.WeakSet()


def _close_all() -> None:
    for store in list(_OPEN):
        store.close()


os.register_at_fork(before=_close_all)


def wall_clock() -> int:
    """Return the seconds since 1970, whole."""
    return time.time_ns() // 1_000_000_000


def _load(text: str) -> Body:
    body: Body = json.loads(text)
    return body
