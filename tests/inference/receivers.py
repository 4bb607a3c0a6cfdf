"""A receiver of webhooks for tests: a real server in a thread, as bad as a test wants it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Receiver:
    """What came, and what is answered next; 200 when nothing else was said."""

    answers: list[Answer] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    # Set when the test has ended: lets answers go that hang.
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    server: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def start(self, context: ssl.SSLContext | None = None) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                answer = receiver.answers.pop(0) if receiver.answers else status(200, b"thanks")
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Say nothing."""
        self.ended.wait(30)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a byte every now and then, for ever."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.ended.wait(0.05):
            handler.wfile.write(b"a")
            handler.wfile.flush()

    @staticmethod
    def garbage(handler: BaseHTTPRequestHandler) -> None:
        """Speak something else."""
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
