"""Does one organization's crowd slow down the others? Run as a module.

64 clients call one model: once four of each of 16 organizations, once 60 of one organization and
four of another. What the four wait is compared, in turns on the same site.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

import uvloop

from benchmarks import load, tiny
from benchmarks.load import Measured
from benchmarks.measuring import image_body
from benchmarks.site import Site

CLIENTS, FEW = 64, 4
ROUNDS = 5
SECONDS = 4.0
WANTED = 2.0


async def _beside(port: int, few: bytes, others: list[bytes]) -> Measured:
    """Run the load of one organization beside that of others; returns what the one measured."""
    host = "127.0.0.1"
    measured, _ = await asyncio.gather(
        load.of_clients(host, port, [few], FEW, SECONDS),
        load.of_clients(host, port, others, CLIENTS - FEW, SECONDS),
    )
    return measured


def main() -> None:
    """Measure in alternating turns and compare the medians of p95."""
    among: dict[str, list[float]] = {"many": [], "a crowd": []}
    with tempfile.TemporaryDirectory(prefix="mercato-fairness-", dir="/tmp") as folder:
        onnx_file = Path(folder) / "model.onnx"
        tiny.write(onnx_file, seed=0)
        site = Site(str(onnx_file))
        try:
            keys = [site.secret, *(site.add_tenant() for _ in range(CLIENTS // FEW - 1))]
            site.start()
            few, *others = [_request(site, key) for key in keys]
            load.run("127.0.0.1", site.port, [few, *others], CLIENTS, SECONDS)
            for _ in range(ROUNDS):
                for name, those in (("many", others), ("a crowd", others[:1])):
                    found = uvloop.run(_beside(site.port, few, those))
                    among[name].append(found.percentile(95))
            print(f"  {site.prove_books()}")
        finally:
            site.stop()
    many, crowd = (statistics.median(waits) for waits in among.values())
    print(f"  p95 among many organizations {many:.1f} ms, beside one with 94 % {crowd:.1f} ms")
    verdict = "as wanted" if crowd <= WANTED * many else f"above {WANTED}"
    print(f"  {crowd / many:.2f} times: {verdict}")


def _request(site: Site, key: str) -> bytes:
    headers = {"Authorization": f"Bearer {key}"}
    return load.post("/v1/predictions", site.port, image_body(site.model), headers)


if __name__ == "__main__":
    main()
