"""Tells predict workers that a text is ordered."""

from __future__ import annotations

from inference.connections import predict_app
from inference.routing import Route


def ring(order_id: str, version_id: int, route: Route) -> None:
    """Send the Celery task that names the order.

    Raises:
        OperationalError: The broker cannot be reached.
    """
    app = predict_app()
    with app.producer_pool.acquire(block=True) as producer:
        app.send_task(
            "inference.write_text",
            (order_id, version_id),
            producer=producer,
            queue=route.queue,  # type: ignore[arg-type]  # it takes a Queue as well
            ignore_result=True,
            retry=False,
            argsrepr="",
            kwargsrepr="",
        )
