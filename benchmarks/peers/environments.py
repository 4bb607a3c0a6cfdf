"""An environment per peer, made when it is first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.site import BIN, ROOT

FOLDER = ROOT / ".venv-bench"


def python_of(peer: Peer) -> Path:
    """Return the peer's Python; installs what is missing or of another version.

    Raises:
        subprocess.CalledProcessError: The package index did not give it.
    """
    home = FOLDER / peer.name
    stamp, wanted = home / "installed.txt", "\n".join(peer.requirements)
    python = home / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {peer.requirement} into {home.relative_to(ROOT)}", flush=True)
        uv = str(BIN / "uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True
        )
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements],
            check=True,
        )
        stamp.write_text(wanted)
    return python
