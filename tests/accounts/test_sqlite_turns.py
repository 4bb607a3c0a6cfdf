"""Writers of SQLite take turns: one at a time, in no turn for longer than they live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from accounts.sqlite.base import DatabaseWrapper
from accounts.sqlite.turns import Turn, turn_of

pytestmark = pytest.mark.once
HOLD = """
import sys
from accounts.sqlite.turns import Turn
assert Turn(sys.argv[1]).take(10)
print("mine", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the turn and keeps it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "turn")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mine\n"
        yield process
        process.kill()


@pytest.fixture
def database(tmp_path: Path, db: None) -> Iterator[DatabaseWrapper]:
    options = {"timeout": 0.2, "transaction_mode": "IMMEDIATE"}
    name = str(tmp_path / "db.sqlite3")
    with ExitStack() as opened:
        handler = ConnectionHandler(
            {"default": {"ENGINE": "accounts.sqlite", "NAME": name, "OPTIONS": options}}
        )
        wrapper = handler["default"]
        assert isinstance(wrapper, DatabaseWrapper)
        opened.callback(wrapper.close)
        wrapper.cursor().execute("CREATE TABLE t (a INTEGER UNIQUE)")
        yield wrapper


def is_free(database: DatabaseWrapper) -> bool:
    """Whether another process could write: it has no part in this one's lock."""
    turn = Turn(f"{database.settings_dict['NAME']}-turn")
    if not turn.take(0.01):
        return False
    turn.give()
    return True


def test_threads_of_a_process_wait_for_each_other(tmp_path: Path) -> None:
    turn = Turn(str(tmp_path / "turn"))
    assert turn.take(1)
    order: list[str] = []
    started = threading.Event()

    def write() -> None:
        started.set()
        assert turn.take(10)
        order.append("second")
        turn.give()

    thread = threading.Thread(target=write)
    thread.start()
    assert started.wait(10)
    order.append("first")
    turn.give()
    thread.join(10)

    assert order == ["first", "second"]
    assert turn.take(0.01)
    assert not turn.take(0.01)


def test_a_process_waits_for_another_and_not_for_a_dead_one(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    turn = Turn(str(tmp_path / "turn"))

    assert not turn.take(0.05)
    holder.send_signal(signal.SIGKILL)

    assert turn.take(10)


def test_a_child_does_not_have_its_parents_turn(tmp_path: Path) -> None:
    turn = Turn(str(tmp_path / "turn"))
    assert turn.take(1)

    child = os.fork()
    if not child:
        os._exit(turn.take(0.05))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    # The child's end has not ended it either.
    assert not Turn(str(tmp_path / "turn")).take(0.01)


@pytest.mark.parametrize("how", ["commit", "rollback", "close"])
def test_a_transaction_has_the_turn_until_it_ends(database: DatabaseWrapper, how: str) -> None:
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    assert not is_free(database)

    getattr(database, how)()

    assert is_free(database)


def test_a_transaction_that_cannot_begin_gives_its_turn_back(database: DatabaseWrapper) -> None:
    other = ConnectionHandler({"default": {**database.settings_dict}})["default"]
    # A writer that takes no turn.
    other.cursor().execute("BEGIN IMMEDIATE")

    with pytest.raises(OperationalError, match="locked"):
        database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)

    assert is_free(database)
    other.close()


def test_who_waits_too_long_for_the_turn_is_told_that_the_database_is_locked(
    database: DatabaseWrapper,
) -> None:
    turn = turn_of(str(database.settings_dict["NAME"]))
    assert turn.take(1)

    with pytest.raises(OperationalError, match="locked"), database.turn():
        pytest.fail("it is not our turn")

    turn.give()


def test_a_turn_taken_early_ends_with_the_transaction_or_the_block(
    database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.turn():
        assert not is_free(database)
        database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        database.commit()
        assert is_free(database)
        database.set_autocommit(True)
    with database.turn():
        assert not is_free(database)
    assert is_free(database)
