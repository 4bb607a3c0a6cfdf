"""Do open event streams slow down what else a gateway serves? Run as a module.

Predictions and a page of the catalogue, with and without 200 streams per gateway process that
watch a training, in turns on the same site.
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import load, tiny
from benchmarks.measuring import image_body
from benchmarks.site import Site

GATEWAYS = 2
STREAMS = 200 * GATEWAYS
ROUNDS = 6
SECONDS = 3.0
CLIENTS = {"predictions, 1 client": 1, "predictions, 8 clients": 8, "a page": 1}
WANTED = 1.2


def training(site: Site) -> str:
    """Order a training; no worker here takes it, so it waits. Returns the path of its events."""
    price = "prices.add(sku='training.cpu', components={'compute_ms': (1, 1)})"
    site.manage("shell", "-v", "0", "-c", f"from catalog import prices; {price}")
    body = json.dumps({"recipe": "mnist-mlp", "data": "digits"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.port}/v1/trainings",
        body,
        {"Authorization": f"Bearer {site.secret}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        return f"/v1/trainings/{json.load(response)['id']}/events"


@contextmanager
def watching(site: Site, path: str) -> Iterator[None]:
    """Keep the streams open; all have begun when the block does."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {site.secret}\r\n\r\n"
    with ExitStack() as opened:
        for _ in range(STREAMS):
            stream = opened.enter_context(socket.create_connection(("127.0.0.1", site.port), 60))
            stream.sendall(head.encode())
            answer = stream.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer[:200].decode())
        yield


def measure(site: Site, found: dict[str, list[float]]) -> None:
    """Add a turn's median latencies, in milliseconds."""
    headers = {"Authorization": f"Bearer {site.secret}"}
    predict = load.post("/v1/predictions", site.port, image_body(site.model), headers)
    page = f"GET /models HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()
    for name, clients in CLIENTS.items():
        request = page if name == "a page" else predict
        turn = load.run("127.0.0.1", site.port, request, clients, SECONDS)
        if turn.statuses.keys() != {200}:
            raise RuntimeError(f"{name}: {dict(turn.statuses)}")
        found[name].append(turn.percentile(50))


def main() -> None:
    """Measure in alternating turns and compare the medians of p50."""
    alone: dict[str, list[float]] = {name: [] for name in CLIENTS}
    watched: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory(prefix="mercato-streams-", dir="/tmp") as folder:
        onnx_file = Path(folder) / "model.onnx"
        tiny.write(onnx_file, seed=0)
        site = Site(str(onnx_file))
        try:
            # Here a page is opened, which names its files by their hashes.
            site.manage("collectstatic", "--noinput", "--clear", "--verbosity", "0")
            site.start()
            path = training(site)
            measure(site, {name: [] for name in CLIENTS})
            for _ in range(ROUNDS):
                measure(site, alone)
                with watching(site, path):
                    measure(site, watched)
        finally:
            site.stop()
    for name in CLIENTS:
        before, after = statistics.median(alone[name]), statistics.median(watched[name])
        verdict = "as wanted" if after <= WANTED * before else f"above {WANTED}"
        print(f"  {name}: p50 {before:.1f} ms; with {STREAMS} streams {after:.1f} ms: {verdict}")


if __name__ == "__main__":
    main()
