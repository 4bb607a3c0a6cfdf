"""The model behind Ray Serve: replicas that gather requests with `serve.batch`."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.classifier import Classifier


class Classify:
    """One replica with the model."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=64, batch_wait_timeout_s=float(os.environ["WAIT_MS"]) / 1000
    )
    async def classify(self, images: list[Any]) -> list[Any]:
        """Compute a batch."""
        return self._classifier.classify(np.stack(images))

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        body = orjson.loads(await request.body())
        answer = await self.classify(np.asarray(body["input"]["image"], dtype=np.float32))
        return Response(orjson.dumps({"output": answer}), media_type="application/json")


def main() -> None:
    """Serve until SIGTERM."""
    deployment = serve.deployment(
        num_replicas=int(os.environ["WORKERS"]),
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0.5},
    )(Classify)
    ended = threading.Event()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
