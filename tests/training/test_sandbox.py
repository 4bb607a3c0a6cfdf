"""What a runner's process can no longer do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import sys
from pathlib import Path
from training import sandbox
own = Path(sys.argv[1])
told = sandbox.enter(read=[own / "earlier"], write=[own / "own"], list_names=[])
try:
    exec(sys.argv[2], {"own": own})
except OSError as error:
    print("refused", error.errno)
else:
    print("allowed", told)
"""


@pytest.fixture
def caged(tmp_path: Path) -> Path:
    """A folder with an attempt's own folder and an earlier one."""
    for name in ("own", "earlier", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    return tmp_path


def run(folder: Path, statement: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), statement],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "open('/etc/passwd').read()",
        "(own / 'other' / 'file').read_text()",
        "(own / 'other' / 'new').write_text('x')",
        "(own / 'earlier' / 'file').write_text('x')",
        "open('/tmp/outside', 'w')",
        "import os; open(f'/proc/{os.getppid()}/environ', 'rb').read()",
        "import os; os.kill(os.getppid(), 0)",
        "import socket; socket.socket()",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    ],
)
def test_nothing_outside_is_within_reach(caged: Path, statement: str) -> None:
    assert run(caged, statement).startswith("refused")


@pytest.mark.parametrize(
    "statement",
    [
        "(own / 'own' / 'new').write_text('x')",
        "(own / 'own' / 'file').rename(own / 'own' / 'moved')",
        "(own / 'earlier' / 'file').read_text()",
        "import json.tool, numpy, os; os.urandom(8); open('/dev/null', 'w').write('x')",
    ],
)
def test_what_a_training_needs_is_within_reach(caged: Path, statement: str) -> None:
    assert run(caged, statement).startswith("allowed")
