"""`python -m benchmarks.embedder`: a model of real size over HTTP, against the runtime alone.

The runtime gets what suits it best: texts sorted by length, each batch padded to its longest, the
best of several batch sizes, one thread per core. The site gets the same texts, one a request, from
32 clients. On a busy machine rows per second mean little: the CPU time per row is printed as well.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.site import Site
from inference.runtime.embedders import EmbedderSession
from training.recipes import embedder_graph, embedder_run, text_data

CLIENTS, SECONDS = 32, 10.0
TEXTS, LONGEST = 256, 256
_TICKS = os.sysconf("SC_CLK_TCK")


def texts() -> list[str]:
    """Return paragraphs of our documents: a few words to a few sentences."""
    found = [line[:800] for line in text_data.paragraphs() if len(line) >= 40]
    return [found[place % len(found)] for place in range(TEXTS)]


def tokens(tokenizer: Path, given: Sequence[str]) -> Any:
    """Return the tokens of texts, padded with 0."""
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_padding()
    reader.enable_truncation(LONGEST)
    rows = np.zeros((len(given), LONGEST), np.int32)
    for row, encoded in enumerate(reader.encode_batch(list(given))):
        rows[row, : len(encoded.ids)] = encoded.ids
    return rows


def raw(session: EmbedderSession, rows: Any) -> dict[int, tuple[float, float]]:
    """Return rows per second and CPU seconds per row, by the rows of a batch."""
    found: dict[int, tuple[float, float]] = {}
    ordered = rows[(rows != 0).sum(1).argsort()]
    for size in (1, 8, 32, 128):
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        threads = [
            threading.Thread(target=_run_all, args=(session, batches[place :: os.cpu_count() or 1]))
            for place in range(os.cpu_count() or 1)
        ]
        began, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        found[size] = (len(rows) / took, (time.process_time() - cpu) / len(rows))
    return found


def _run_all(session: EmbedderSession, batches: Sequence[Any]) -> None:
    for batch in batches:
        session.run({"text": batch})


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time of processes and of all that they started."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = (int(fields[11]) + int(fields[12])) / _TICKS

    def is_ours(pid: int) -> bool:
        while pid not in pids and pid in parents:
            pid = parents[pid]
        return pid in pids

    return sum(spent for pid, spent in times.items() if is_ours(pid))


def over_http(site: Site, given: Sequence[str]) -> tuple[float, float]:
    """Return rows per second and CPU seconds per row of the whole site.

    Each connection repeats one request, so the clients are started in groups with other texts.
    """
    pids = [process.pid for process in site._processes]
    results: list[load.Measured] = []

    def send(text: str) -> None:
        body = json.dumps({"model": site.model, "input": text}).encode()
        headers = {"Authorization": f"Bearer {site.secret}"}
        request = load.post("/v1/embeddings", site.port, body, headers)
        results.append(load.run("127.0.0.1", site.port, request, 4, SECONDS))

    threads = [
        threading.Thread(target=send, args=(given[place * len(given) // (CLIENTS // 4)],))
        for place in range(CLIENTS // 4)
    ]
    before = cpu_seconds(pids)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = sum(one.statuses[200] for one in results)
    refused = sum(sum(one.statuses.values()) for one in results) - rows
    if refused:
        raise SystemExit(f"{refused} requests were refused.")
    return rows / SECONDS, (cpu_seconds(pids) - before) / rows


def main() -> None:
    """Measure both, and compare."""
    given = texts()
    # The same texts in the same shares for both.
    sent = [given[place * len(given) // (CLIENTS // 4)] for place in range(CLIENTS // 4)] * 16
    with tempfile.TemporaryDirectory(prefix="mercato-bench-", dir="/tmp") as name:
        onnx_file = Path(name) / "model.onnx"
        source = embedder_run.weights_folder()
        weights = embedder_graph.read_safetensors(source / "model.safetensors")
        embedder_graph.write(weights, onnx_file)
        (onnx_file.with_name("tokenizer.json")).write_bytes(
            (source / "tokenizer.json").read_bytes()
        )
        rows = tokens(source / "tokenizer.json", sent)
        print(f"{len(rows)} texts, {np.count_nonzero(rows) / len(rows):.0f} tokens on average")
        session = EmbedderSession(onnx_file, threads=1)
        session.run({"text": rows[:8]})
        speeds = raw(session, rows)
        for size, (speed, cpu) in speeds.items():
            print(
                f"  runtime alone, batch {size:>3}  {speed:>8.1f} rows/s  {cpu * 1000:.2f} ms CPU"
            )
        best = max(speed for speed, _ in speeds.values())
        least = min(cpu for _, cpu in speeds.values())
        site = Site(str(onnx_file), rows="benchmarks.embedder_rows")
        try:
            site.start()
            over_http(site, given)
            speed, cpu = over_http(site, given)
        finally:
            site.stop()
        print(f"  over HTTP, {CLIENTS} clients    {speed:>8.1f} rows/s  {cpu * 1000:.2f} ms CPU")
        print(f"{speed / best:.0%} of the rows/s, {least / cpu:.0%} by CPU time")


if __name__ == "__main__":
    main()
