"""Putting the same load on every server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks import bodies, load
from benchmarks.bodies import random_image

CLIENTS = (1, 8, 64)
SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
WARM_UP_SECONDS = 3.0


@dataclass(frozen=True)
class Line:
    """What one server did with one number of clients; latencies in milliseconds."""

    server: str
    version: str
    settings: str
    clients: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    # Answers that were not 200, by status.
    others: dict[str, int]

    def of_raw(self, limit: float) -> float:
        """Return the share of what the model does in process."""
        return self.requests_per_second / limit

    def as_dict(self) -> dict[str, object]:
        """Return what the file of results keeps."""
        return asdict(self)


def image_body(model: str) -> bytes:
    """Return the JSON body for a model of this site with one image."""
    return bodies.as_json(model, [random_image()]).data


def measure(
    server: str,
    port: int,
    request: bytes,
    *,
    version: str = "",
    settings: str = "",
    counts: Sequence[int] = CLIENTS,
) -> list[Line]:
    """Run every number of clients against one server, after a warm-up; prints a line for each."""
    load.run("127.0.0.1", port, request, 16, WARM_UP_SECONDS)
    lines = []
    for clients in counts:
        found = load.run("127.0.0.1", port, request, clients, SECONDS)
        others = {str(status): n for status, n in found.statuses.items() if status != 200}
        line = Line(
            server,
            version,
            settings,
            clients,
            round(found.per_second, 1),
            round(found.percentile(50), 2),
            round(found.percentile(99), 2),
            others,
        )
        lines.append(line)
        print(
            f"  {server:<28} {settings:<22} {clients:>3} clients {line.requests_per_second:>8,.0f}"
            f" requests/s   p50 {line.p50_ms:>7.1f} ms   p99 {line.p99_ms:>7.1f} ms"
            + (f"   {others}" if others else ""),
            flush=True,
        )
    return lines
