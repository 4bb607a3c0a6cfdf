"""`make bench`: the raw limit of the model, then servers over HTTP, side by side in one run.

This site runs on SQLite with the own Valkey always; on PostgreSQL and Redis when
TEST_DATABASE_URL and TEST_REDIS_URL name them (the database is emptied). The other servers are
installed in environments of their own. `make bench ONLY=mosec,bentoml` measures those alone;
`mercato` is a name like theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from benchmarks import mercato
from benchmarks.bodies import random_image
from benchmarks.measuring import Line, image_body, measure
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.server import serving
from benchmarks.results import Results
from benchmarks.site import ROOT

OURS = "mercato"


def wanted() -> list[str]:
    """Return what ONLY names, or everything.

    Raises:
        SystemExit: ONLY has an unknown name.
    """
    known = [OURS, *PEERS]
    names = [name for name in os.environ.get("ONLY", "").split(",") if name] or known
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"ONLY knows {', '.join(known)}; not {', '.join(sorted(unknown))}.")
    return names


def raw(folder: str) -> tuple[str, dict[str, dict[str, float]]]:
    """Print the raw speeds; returns the ONNX file, and rows per second by runtime and batch."""
    command = [sys.executable, "-m", "benchmarks.model", folder]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout.decode().strip().splitlines()[-1])
    print("In process, one thread          rows/s")
    for runtime, speeds in found["rows_per_second"].items():
        for rows, speed in speeds.items():
            print(f"  {runtime:<12} batch {rows:>3}   {speed:>14,.0f}")
    return found["onnx_file"], found["rows_per_second"]


def of_peer(peer: Peer, onnx_file: str) -> list[Line]:
    """Measure one peer with each of its settings.

    Raises:
        RuntimeError: It did not start.
    """
    body = json.dumps(peer.body(random_image())).encode()
    lines = []
    for run in peer.runs:
        with serving(peer, run, onnx_file, body) as (port, request):
            version = peer.requirement.partition("==")[2]
            lines += measure(peer.name, port, request, version=version, settings=str(run))
    return lines


def compare(results: Results) -> None:
    """Say how this site stands to each peer, with most clients."""
    best = {lines[0].server: lines[-1].requests_per_second for lines in results.best()}
    for ours in (name for name in best if name in mercato.NAMES):
        for peer in (name for name in best if name in PEERS and best[name]):
            print(f"{ours}: {best[ours] / best[peer]:.2f} times {peer}")
    for ours, form, settings, ratio in mercato.against_json(results.lines):
        print(f"{ours}, {settings}: {form} {ratio:.2f} times JSON")


def main() -> None:
    """Measure everything that is wanted, and write it down."""
    names = wanted()
    with tempfile.TemporaryDirectory(prefix="mercato-bench-", dir="/tmp") as folder:
        onnx_file, speeds = raw(folder)
        results = Results(speeds, len(image_body("-")))
        print(f"\nOver HTTP, JSON body of {results.body_bytes:,} bytes")
        for name in names:
            if name == OURS:
                results.lines += mercato.sites(onnx_file)
                continue
            try:
                results.lines += of_peer(PEERS[name], onnx_file)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                results.failed[name] = str(error)
                print(f"  {name} was not measured: {error}", flush=True)
    print()
    compare(results)
    print(f"\nWritten to {results.write().relative_to(ROOT)}")


if __name__ == "__main__":
    main()
