"""How many finished calls per second does the settler book? Run as a module.

By one process with nothing beside it; on SQLite, and on PostgreSQL where TEST_DATABASE_URL names it
(the database is emptied).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks import tiny
from benchmarks.mercato import empty_database
from benchmarks.site import Site


def main() -> None:
    """Measure on each database."""
    urls = {"SQLite": ""}
    if named := os.environ.get("TEST_DATABASE_URL"):
        urls["PostgreSQL"] = empty_database(named)
    with tempfile.TemporaryDirectory(prefix="mercato-settling-", dir="/tmp") as folder:
        onnx_file = Path(folder) / "model.onnx"
        tiny.write(onnx_file, seed=0)
        for name, url in urls.items():
            site = Site(str(onnx_file), database_url=url)
            try:
                code = f"from benchmarks import settling_calls as c; c.run({site.secret!r})"
                said = site.manage("shell", "-v", "0", "-c", code)
                print(f"  {name}\n{said.rstrip()}\n  {site.prove_books()}")
            finally:
                site.stop()


if __name__ == "__main__":
    main()
