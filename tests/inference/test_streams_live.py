"""Two hundred open event streams: no thread and no connection to the database for each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from accounts.keys import Caller
from inference.asynchronous import endings
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import accept_call, call_of
from tests.live import Site

STREAMS = 200


@pytest.fixture
def watched(site: Site) -> tuple[Prediction, str]:
    """A prediction that a worker seems to have for a long time, and the key that may watch it."""
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    call = call_of(organization, factories.make_version())
    assert isinstance(call.caller, Caller)
    site.kill("predict")
    prediction = accept_call(call)
    Prediction.objects.update(
        status="processing",
        turn=None,
        attempt=1,
        lease_owner="elsewhere",
        lease_until=timezone.now() + timedelta(hours=1),
    )
    site.start()
    return prediction, secret


def gateways(site: Site) -> list[Path]:
    """Return the folders below /proc of the processes that serve, without the one above them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _is_gateway(folder, site.port):
            found.append(folder)
    return found


def _is_gateway(folder: Path, port: int) -> bool:
    try:
        command = (folder / "cmdline").read_bytes()
        parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        above = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return False
    return str(port).encode() in above and b"granian" in above and b"celery" not in command


def threads(site: Site) -> int:
    return sum(len(list((folder / "task").iterdir())) for folder in gateways(site))


def database_connections() -> int:
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        count: int = cursor.fetchone()[0]
        return count


def open_stream(site: Site, prediction: Prediction, secret: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    stream.sendall(
        f"GET /v1/predictions/{prediction.pk}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {secret}\r\n\r\n".encode()
    )
    return stream


def read_until(stream: socket.socket, text: bytes) -> bytes:
    heard = b""
    while text not in heard:
        part = stream.recv(65536)
        assert part, heard
        heard += part
    return heard


@pytest.fixture
def opened(site: Site, watched: tuple[Prediction, str]) -> Iterator[list[socket.socket]]:
    with ExitStack() as kept:
        streams = [kept.enter_context(open_stream(site, *watched)) for _ in range(STREAMS)]
        for stream in streams:
            heard = read_until(stream, b"event: state")
            assert b"HTTP/1.1 200" in heard
        yield streams


def test_streams_take_neither_threads_nor_connections_and_all_hear_the_end(
    site: Site, watched: tuple[Prediction, str], request: pytest.FixtureRequest
) -> None:
    prediction, secret = watched
    address = f"/v1/predictions/{prediction.pk}"
    headers = {"Authorization": f"Bearer {secret}"}
    assert site.client.get(address, headers=headers).json()["status"] == "processing"
    assert len(gateways(site)) == 2
    before, connected = threads(site), database_connections()

    streams: list[socket.socket] = request.getfixturevalue("opened")

    # A few that were to come anyway: of pools that grow with their first use.
    assert threads(site) < before + 20
    assert database_connections() < connected + 10
    assert site.client.get(address, headers=headers).status_code == 200
    assert endings.cancel(prediction)
    for stream in streams:
        assert b'"canceled"' in read_until(stream, b"event: end")
    assert threads(site) < before + 20
