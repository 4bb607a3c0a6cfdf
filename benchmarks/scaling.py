"""Does the work that is done grow with the workers? 1, 2 and 4 of them on a slow model.

The model sleeps for each row, one batch at a time in each worker, as a device would: so the
measurement shows what is lost between gateway and workers, on a machine with few cores too.
Run as `python -m benchmarks.scaling`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import load, tiny
from benchmarks.measuring import image_body
from benchmarks.site import Site

WORKERS = (1, 2, 4)
TARGETS = {1: 1.0, 2: 1.9, 4: 3.7}
ROW_MS = 50
CLIENTS = 64
SECONDS = 12.0
WARM_UP_SECONDS = 6.0


def per_second(onnx_file: Path, workers: int) -> float:
    """Return how many requests of one row are answered per second."""
    slow = {"MERCATO_SLOW_ROW_MS": str(ROW_MS)}
    site = Site(str(onnx_file), workers=workers, environment=slow)
    try:
        site.start()
        headers = {"Authorization": f"Bearer {site.secret}"}
        request = load.post("/v1/predictions", site.port, image_body(site.model), headers)
        load.run("127.0.0.1", site.port, request, CLIENTS, WARM_UP_SECONDS)
        found = load.run("127.0.0.1", site.port, request, CLIENTS, SECONDS)
        print(f"  {workers} workers: {found.per_second:6.1f} requests/s  {site.prove_books()}")
        return found.per_second
    finally:
        site.stop()


def main() -> None:
    """Measure and compare with one worker."""
    with tempfile.TemporaryDirectory(prefix="mercato-scaling-", dir="/tmp") as folder:
        onnx_file = Path(folder) / "model.onnx"
        tiny.write(onnx_file, seed=0)
        found = {workers: per_second(onnx_file, workers) for workers in WORKERS}
    for workers, speed in found.items():
        times = speed / found[1]
        verdict = "as wanted" if times >= TARGETS[workers] else f"below {TARGETS[workers]}"
        print(f"  {workers} workers do {times:.2f} times the work of one: {verdict}")


if __name__ == "__main__":
    main()
