"""One HTTP request to a receiver that may be slow, broken or hostile; no database here."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError
from urllib3.util.ssl_match_hostname import CertificateError

from inference.errors import WebhookUrlError
from inference.webhooks import addresses
from inference.webhooks.addresses import Target

CONNECT_SECONDS = 5
# For all of it: a receiver that sends a byte a second does not hold us longer.
TOTAL_SECONDS = 15
MAX_ANSWER_BYTES = 16_384
_EXCERPT = 1000
_USER_AGENT = "Mercato-Webhooks/1"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one attempt.

    Attributes:
        failure: Empty if the receiver has taken it; else why not.
    """

    failure: str = ""
    status: int | None = None
    excerpt: str = ""
    milliseconds: int = 0


def post(url: str, body: str, headers: dict[str, str]) -> Result:
    """Send one POST; redirects are not followed. Never raises for what a receiver does."""
    began = time.monotonic()
    try:
        target = addresses.parse(url)
        address = addresses.resolve(target)
        status, excerpt = _exchange(target, address, body.encode(), headers, began)
    except WebhookUrlError:
        return _failed("address_refused", began)
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        return _failed(_name_of(error, began), began, str(error))
    return Result(_failure_of(status), status, excerpt, _since(began))


def _name_of(error: Exception, began: float) -> str:
    is_late = time.monotonic() - began >= TOTAL_SECONDS
    # To urllib3 a connection that was refused is a kind of timeout.
    was_refused = isinstance(error, NewConnectionError)
    if is_late or (isinstance(error, TimeoutError | ConnectTimeoutError) and not was_refused):
        return "timeout"
    is_tls = isinstance(error, ssl.SSLError | SSLError | CertificateError)
    return "tls_error" if is_tls else "connection_error"


def _failed(failure: str, began: float, excerpt: str = "") -> Result:
    return Result(failure, None, _clean(excerpt), _since(began))


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _failure_of(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if status == 410:
        return "gone"
    return "redirect" if 300 <= status < 400 else "refused"


def _exchange(
    target: Target, address: str, body: bytes, headers: dict[str, str], began: float
) -> tuple[int, str]:
    connection = _connection(target, address)
    # Timeouts of sockets begin anew with every byte: this one does not.
    timer = threading.Timer(TOTAL_SECONDS, _cut, [connection])
    timer.daemon = True
    try:
        timer.start()
        connection.connect()
        connection.timeout = TOTAL_SECONDS
        connection.request(
            "POST",
            target.path,
            body=body,
            headers={
                "Host": target.authority,
                "Content-Type": "application/json",
                "User-Agent": _USER_AGENT,
                **headers,
            },
            preload_content=False,
            decode_content=False,
        )
        answer = connection.getresponse()
        if time.monotonic() - began >= TOTAL_SECONDS:
            # We have cut it off: what looks like the end of the headers is none.
            raise TimeoutError
        location = answer.headers.get("Location", "") if 300 <= answer.status < 400 else ""
        text = answer.read(MAX_ANSWER_BYTES, decode_content=False).decode("utf-8", "replace")
        return answer.status, _clean(f"Location: {location}" if location else text)
    finally:
        timer.cancel()
        connection.close()


def _connection(target: Target, address: str) -> HTTPConnection:
    """Connect to the address that was checked, and ask its certificate for the host's name."""
    if not target.is_tls:
        return HTTPConnection(address, target.port, timeout=CONNECT_SECONDS)
    return HTTPSConnection(
        address,
        target.port,
        timeout=CONNECT_SECONDS,
        ssl_context=tls_context(),
        server_hostname=target.host,
        assert_hostname=target.host,
    )


def tls_context() -> ssl.SSLContext:
    """Return how certificates are checked."""
    return ssl.create_default_context()


def _cut(connection: HTTPConnection) -> None:
    """End a connection that takes too long, whatever it is waiting for."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which another thread is reading.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _clean(text: str) -> str:
    """Keep what the database can store, and no more than is useful."""
    return text.replace("\0", "")[:_EXCERPT]
