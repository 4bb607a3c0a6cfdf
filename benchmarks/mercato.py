"""This site, with keys, admission and accounts on; its books must be right afterwards."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator

from benchmarks import bodies
from benchmarks.measuring import CLIENTS, Line, measure
from benchmarks.site import Site

SQLITE, POSTGRESQL = "Mercato, SQLite", "Mercato, PostgreSQL + Redis"
NAMES = (SQLITE, POSTGRESQL)
# Images per request: one, and what fills a batch.
ROWS = (1, 16)


def sites(onnx_file: str) -> list[Line]:
    """Measure SQLite with the own Valkey, and PostgreSQL with Redis where both are named."""
    lines = _site(SQLITE, onnx_file)
    database, redis = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    if database and redis:
        url = empty_database(database)
        lines += _site(POSTGRESQL, onnx_file, database_url=url, redis_url=redis)
    return lines


def _site(name: str, onnx_file: str, *, database_url: str = "", redis_url: str = "") -> list[Line]:
    site = Site(onnx_file, database_url=database_url, redis_url=redis_url)
    try:
        site.start()
        version = f"celery {importlib.metadata.version('celery')}"
        request = bodies.request(bodies.JSON, site.port, site.model, site.secret)
        lines = measure(name, site.port, request, version=version, settings="×1")
        for rows in ROWS:
            lines += _forms(name, site, rows, version)
        print(f"  {'':<28} {site.prove_books()}")
    finally:
        site.stop()
    return lines


def _forms(name: str, site: Site, rows: int, version: str) -> list[Line]:
    """Measure the same images in every form, with most clients, one after the other."""
    lines = []
    for form in bodies.FORMS:
        request = bodies.request(form, site.port, site.model, site.secret, rows)
        lines += measure(
            form_name(name, form),
            site.port,
            request,
            version=version,
            settings=f"{rows} images" if rows > 1 else "1 image",
            counts=CLIENTS[-1:],
        )
    return lines


def form_name(name: str, form: str) -> str:
    """Return the name of a site that is called in one form."""
    return f"{name}: {form}"


def against_json(lines: list[Line]) -> Iterator[tuple[str, str, str, float]]:
    """Yield site, form, settings, and how many times the requests/s of JSON."""
    speeds = {(line.server, line.settings): line.requests_per_second for line in lines}
    for name in NAMES:
        for form in (form for form in bodies.FORMS if form != bodies.JSON):
            for (server, settings), speed in speeds.items():
                json = speeds.get((form_name(name, bodies.JSON), settings))
                if server == form_name(name, form) and json:
                    yield name, form, settings, speed / json


def empty_database(url: str) -> str:
    """Make an empty database beside the one that is named; returns its address."""
    import psycopg2

    name = "mercato_bench"
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{url.rpartition('/')[0]}/{name}"
