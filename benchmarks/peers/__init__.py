"""The servers that `make bench` compares with: how each is installed, tuned, started and asked.

Each lives in an environment of its own under `.venv-bench`, at a pinned version, with the same
ONNX Runtime as this site. Each runs with the settings listed here; the best run counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

Image = list[list[float]]
# What all of them run the model with.
_RUNTIME = ("numpy", "onnxruntime", "orjson")


@dataclass(frozen=True)
class Run:
    """One way to set a peer up: its processes, and what its server reads besides."""

    workers: int
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [f"×{self.workers}", *(f"{k.lower()} {v}" for k, v in self.options.items())]
        return ", ".join(told)


@dataclass(frozen=True)
class Peer:
    """Another server.

    Attributes:
        requirement: What is installed, with its version.
        command: Arguments of the environment's Python; `{port}` is filled in.
        path: Where it takes requests.
        body: Wraps one image of 28×28 the way the server wants it.
        runs: The settings that are tried.
        batching: How it batches, in words for the table.
        has_model: Whether its environment needs what the model runs with.
    """

    name: str
    requirement: str
    command: tuple[str, ...]
    path: str
    body: Callable[[Image], Any]
    runs: tuple[Run, ...]
    batching: str
    has_model: bool = True

    @property
    def requirements(self) -> list[str]:
        """Everything that its environment holds."""
        runtime = [f"{name}=={version(name)}" for name in _RUNTIME] if self.has_model else []
        return [self.requirement, *runtime]


def _plain(image: Image) -> Any:
    return {"model": "-", "input": {"image": image}}


def _chat(image: Image) -> Any:
    return {"model": "mock", "messages": [{"role": "user", "content": json.dumps(image)}]}


# None of them writes a line per request or speaks to its makers while it is measured.
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "UVICORN_ACCESS_LOG": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "LITELLM_LOG": "ERROR",
}


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "mosec",
            "mosec==0.9.8",
            (
                *("-m", "benchmarks.peers.mosec_server", "--port", "{port}"),
                *("--address", "127.0.0.1", "--log-level", "error"),
            ),
            "/inference",
            _plain,
            (Run(1, {"WAIT_MS": "0"}), Run(2, {"WAIT_MS": "5"})),
            "of up to 64",
        ),
        Peer(
            "bentoml",
            "bentoml==1.4.39",
            (
                *("-m", "bentoml", "serve", "benchmarks.peers.bentoml_server:Classify"),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ),
            "/predict",
            lambda image: {"image": [image]},
            (Run(1, {"MAX_LATENCY_MS": "10000"}), Run(2, {"MAX_LATENCY_MS": "10000"})),
            "of up to 64, adaptive; it refuses what would take longer than MAX_LATENCY_MS",
        ),
        Peer(
            "ray",
            "ray[serve]==2.60.0",
            ("-m", "benchmarks.peers.ray_server"),
            "/predict",
            _plain,
            (Run(1, {"WAIT_MS": "0"}), Run(2, {"WAIT_MS": "5"})),
            "of up to 64 with serve.batch",
        ),
        Peer(
            "mlflow",
            "mlflow==3.17.2",
            ("-m", "benchmarks.peers.mlflow_server"),
            "/invocations",
            lambda image: {"instances": [image]},
            (Run(1), Run(2)),
            "nothing across requests",
        ),
        Peer(
            "litellm",
            "litellm[proxy]==1.106.2",
            ("-m", "benchmarks.peers.litellm_server"),
            "/v1/chat/completions",
            _chat,
            (Run(1), Run(2)),
            "nothing: a mock reply, no model",
            has_model=False,
        ),
    )
}
