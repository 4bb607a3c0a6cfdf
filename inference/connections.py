"""Where Redis is, and the Celery application that carries predictions."""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
import redis.asyncio
from celery import Celery
from django.conf import settings

# One Redis database per purpose, so that one can be flushed or moved without the others.
CACHE_DB, PREDICT_DB, JOBS_DB, EVENTS_DB = range(4)

SHARED_CONF: dict[str, Any] = {
    "task_serializer": "msgpack",
    "accept_content": ["msgpack", "json"],
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "broker_connection_retry_on_startup": True,
    "broker_pool_limit": 32,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": False,
    "timezone": "UTC",
}


def redis_url(db: int) -> str:
    """Return the address of one Redis database, in the form redis-py reads."""
    base = settings.REDIS_URL.partition("?")[0]
    if base.startswith("unix://"):
        return f"{base}?db={db}"
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{db}"


def broker_url(db: int) -> str:
    """Return the address of the broker, in the form kombu reads."""
    if settings.CELERY_BROKER_URL:
        return str(settings.CELERY_BROKER_URL)
    url = redis_url(db)
    if url.startswith("unix://"):
        return f"redis+socket://{url.removeprefix('unix://').partition('?')[0]}?virtual_host={db}"
    return url


@cache
def redis_client(db: int) -> redis.Redis:
    """Return this process's client of one Redis database; it may be used by all threads."""
    url = redis_url(db)
    # A unix socket has no keepalive, and its connection class refuses the option.
    options = {} if url.startswith("unix://") else {"socket_keepalive": True}
    return redis.Redis.from_url(url, health_check_interval=25, **options)


def async_redis_client(db: int) -> redis.asyncio.Redis:
    """Make a client for one event loop; the caller closes it."""
    return redis.asyncio.Redis.from_url(redis_url(db))


@cache
def predict_app() -> Celery:
    """Return the application that carries batches to predict workers, at most once."""
    # Without fixups: Celery's Django fixup closes the database connection around every task.
    app = Celery("predict", fixups=[], set_as_current=False)
    app.conf.update(
        SHARED_CONF,
        broker_url=broker_url(PREDICT_DB),
        imports=["inference.tasks", "inference.batch_files.tasks"],
        task_default_queue=f"predict.{settings.PREDICT_POOL}",
    )
    if not settings.CELERY_BROKER_URL:
        app.conf.broker_transport_options = {
            # A batch lives as long as its callers wait: bookkeeping for redelivery is waste.
            "ack_emulation": False,
            "priority_steps": [0],
            "health_check_interval": 25,
        }
    return app
