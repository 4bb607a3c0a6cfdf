"""Do many models in the catalogue slow down the few that are called? Run as a module.

Twenty models are called, once alone and once among 2,000, in turns on the same machine.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks import load, tiny
from benchmarks.measuring import image_body
from benchmarks.site import Site

HOT, MANY = 20, 2000
ROUNDS = 5
SECONDS = 4.0
WANTED = 1.5


def requests_of(site: Site) -> list[bytes]:
    """Return a request for each hot model."""
    headers = {"Authorization": f"Bearer {site.secret}"}
    return [
        load.post("/v1/predictions", site.port, image_body(model), headers)
        for model in site.models[:HOT]
    ]


def main() -> None:
    """Measure in alternating turns and compare the medians of p95."""
    with tempfile.TemporaryDirectory(prefix="mercato-many-", dir="/tmp") as folder:
        onnx_file = Path(folder) / "model.onnx"
        tiny.write(onnx_file, seed=0)
        sites = {models: Site(str(onnx_file), models=models) for models in (HOT, MANY)}
        try:
            found = measure(sites)
        finally:
            for site in sites.values():
                site.stop()
    few, many = (statistics.median(found[models]) for models in (HOT, MANY))
    print(f"  {HOT} of {HOT}: p95 {few:.1f} ms; {HOT} of {MANY}: p95 {many:.1f} ms")
    verdict = "as wanted" if many <= WANTED * few else f"above {WANTED}"
    print(f"  {many / few:.2f} times: {verdict}")


def measure(sites: dict[int, Site]) -> dict[int, list[float]]:
    """Return p95 in milliseconds of each turn, by how many models there are."""
    found: dict[int, list[float]] = {models: [] for models in sites}
    for site in sites.values():
        site.start()
        load.run("127.0.0.1", site.port, requests_of(site), HOT, 2 * SECONDS)
    for _ in range(ROUNDS):
        for models, site in sites.items():
            turn = load.run("127.0.0.1", site.port, requests_of(site), HOT, SECONDS)
            found[models].append(turn.percentile(95))
    return found


if __name__ == "__main__":
    main()
