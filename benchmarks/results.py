"""The table of a run, and its files in `benchmarks/results`."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measuring import CLIENTS, SECONDS, Line
from benchmarks.peers import PEERS

FOLDER = Path(__file__).parent / "results"


@dataclass
class Results:
    """What a run found."""

    # Rows per second of the model in process, one thread: runtime → batch size → speed.
    raw: dict[str, dict[str, float]]
    body_bytes: int
    lines: list[Line] = field(default_factory=list)
    # What could not be measured, and why.
    failed: dict[str, str] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def limit(self) -> float:
        """The best the model does without any server."""
        return max(speed for speeds in self.raw.values() for speed in speeds.values())

    def best(self) -> list[list[Line]]:
        """Return each server's better settings with most clients, the fastest server first."""
        runs: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            runs.setdefault((line.server, line.settings), []).append(line)
        kept: dict[str, list[Line]] = {}
        for (server, _), lines in runs.items():
            if server not in kept or _speed(lines) > _speed(kept[server]):
                kept[server] = lines
        return sorted(kept.values(), key=_speed, reverse=True)

    def markdown(self) -> str:
        """Return the tables, as a page."""
        raw = [
            f"| {runtime} | {rows} | {speed:,.0f} |"
            for runtime, speeds in self.raw.items()
            for rows, speed in speeds.items()
        ]
        return "\n".join(
            [
                f"# {self.at:%Y-%m-%d %H:%M} UTC",
                "",
                f"{machine()}; Python {platform.python_version()}. One 28×28 image as JSON, "
                f"{self.body_bytes:,} bytes; {SECONDS:g} s per number of clients, each of which "
                "sends its next request when it has an answer.",
                "",
                "In process, one thread, without any server:",
                "",
                "| runtime | batch | rows/s |",
                "|---|---:|---:|",
                *raw,
                "",
                f"Over HTTP, each server with its better settings, {CLIENTS[-1]} clients deciding:",
                "",
                *_table(self.best(), self.limit),
                "",
                *[f"- {peer.name}: batches {peer.batching}" for peer in PEERS.values()],
                "",
                "Everything that was measured:",
                "",
                *_table([[line] for line in self.lines], self.limit),
                *[f"\n{name} was not measured: {why}" for name, why in self.failed.items()],
                "",
            ]
        )

    def write(self) -> Path:
        """Write JSON and Markdown named for the time; returns the Markdown."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.at:%Y-%m-%d-%H%M}.md"
        path.write_text(self.markdown(), encoding="utf-8")
        kept = {
            "at": self.at.isoformat(timespec="seconds"),
            "machine": machine(),
            "python": platform.python_version(),
            "body_bytes": self.body_bytes,
            "raw_rows_per_second": self.raw,
            "lines": [line.as_dict() for line in self.lines],
            "failed": self.failed,
        }
        path.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        return path


def machine() -> str:
    """Return processor, cores and kernel."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    kernel = platform.release().partition("-")[0]
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {kernel}"


def _speed(lines: list[Line]) -> float:
    return max(lines, key=lambda line: line.clients).requests_per_second


def _table(groups: list[list[Line]], limit: float) -> list[str]:
    rows = [
        "| server | version | settings | clients | requests/s | p50 ms | p99 ms | of raw | other |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for line in (line for lines in groups for line in lines):
        rows.append(
            f"| {line.server} | {line.version} | {line.settings} | {line.clients} | "
            f"{line.requests_per_second:,.0f} | {line.p50_ms:.1f} | {line.p99_ms:.1f} | "
            f"{line.of_raw(limit):.1%} | {sum(line.others.values())} |"
        )
    return rows
