"""`make bench`: the raw limit of the model, then servers over HTTP, side by side in one run.

The databases: SQLite with the own Valkey always; PostgreSQL and Redis when TEST_DATABASE_URL and
TEST_REDIS_URL name them (the database is emptied). mosec when it is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from benchmarks import load
from benchmarks.load import Measured
from benchmarks.site import ROOT, Site, free_port, wait_for

CLIENTS = (1, 8, 64)
SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
WARM_UP_SECONDS = 3.0


@dataclass
class Server:
    """Something that answers the same request."""

    name: str
    port: int
    request: bytes


def image_body(model: str) -> bytes:
    """Return a JSON body with one 28×28 image of three decimals, about 5 KB."""
    values = random.Random(7)
    image = [[round(values.random(), 3) for _ in range(28)] for _ in range(28)]
    return json.dumps({"model": model, "input": {"image": image}}).encode()


def raw(folder: str) -> tuple[str, float]:
    """Print the raw speeds; returns the ONNX file and the best rows per second."""
    command = [sys.executable, "-m", "benchmarks.model", folder]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout.decode().strip().splitlines()[-1])
    print("In process, one thread          rows/s")
    for runtime, speeds in found["rows_per_second"].items():
        for rows, speed in speeds.items():
            print(f"  {runtime:<12} batch {rows:>3}   {speed:>14,.0f}")
    best = max(speed for speeds in found["rows_per_second"].values() for speed in speeds.values())
    return found["onnx_file"], best


def measure(server: Server, limit: float) -> dict[int, Measured]:
    """Run every number of clients against one server and print a line for each."""
    load.run("127.0.0.1", server.port, server.request, 16, WARM_UP_SECONDS)
    found = {}
    for clients in CLIENTS:
        one = load.run("127.0.0.1", server.port, server.request, clients, SECONDS)
        found[clients] = one
        others = {status: count for status, count in one.statuses.items() if status != 200}
        print(
            f"  {server.name:<28} {clients:>3} clients  {one.per_second:>7,.0f} requests/s   "
            f"p50 {one.percentile(50):>6.1f} ms   p99 {one.percentile(99):>6.1f} ms   "
            f"{one.per_second / limit:>6.1%} of raw" + (f"   {others}" if others else ""),
            flush=True,
        )
    return found


def mercato(name: str, onnx_file: str, limit: float, **urls: str) -> dict[int, Measured]:
    """Measure this site; its books must be right afterwards."""
    site = Site(onnx_file, **urls)
    try:
        site.start()
        headers = {"Authorization": f"Bearer {site.secret}"}
        request = load.post("/v1/predictions", site.port, image_body(site.model), headers)
        found = measure(Server(name, site.port, request), limit)
        print(f"  {'':<28} {site.prove_books()}")
    finally:
        site.stop()
    return found


def mosec(onnx_file: str, limit: float, workers: int, wait_ms: int) -> dict[int, Measured]:
    """Measure mosec, which keeps no accounts."""
    port = free_port()
    environment = os.environ | {
        "MODEL": onnx_file,
        "WORKERS": str(workers),
        "WAIT_MS": str(wait_ms),
    }
    command = [sys.executable, "-m", "benchmarks.mosec_server", "--port", str(port)]
    command += ["--address", "127.0.0.1", "--log-level", "error"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/")
        request = load.post("/inference", port, image_body("-"))
        name = f"mosec ×{workers}, wait {wait_ms} ms"
        return measure(Server(name, port, request), limit)
    finally:
        process.terminate()
        process.wait(timeout=30)


def empty_database(url: str) -> str:
    """Make an empty database beside the one that is named; returns its address."""
    import psycopg2

    name = "mercato_bench"
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


def main() -> None:
    """Measure everything that is there."""
    with tempfile.TemporaryDirectory(prefix="mercato-bench-", dir="/tmp") as folder:
        onnx_file, limit = raw(folder)
        print(f"\nOver HTTP, JSON body of {len(image_body('-')):,} bytes")
        best: dict[str, float] = {}
        found = mercato("Mercato, SQLite", onnx_file, limit)
        best["Mercato, SQLite"] = found[64].per_second
        database, redis = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
        if database and redis:
            found = mercato(
                "Mercato, PostgreSQL + Redis",
                onnx_file,
                limit,
                database_url=empty_database(database),
                redis_url=redis,
            )
            best["Mercato, PostgreSQL + Redis"] = found[64].per_second
        if importlib.util.find_spec("mosec"):
            runs = [mosec(onnx_file, limit, workers, wait) for workers, wait in ((1, 0), (2, 5))]
            fastest = max(run[64].per_second for run in runs)
            for name, speed in best.items():
                print(f"\n{name}: {speed / fastest:.2f} times mosec, with 64 clients", end="")
        print()


if __name__ == "__main__":
    main()
