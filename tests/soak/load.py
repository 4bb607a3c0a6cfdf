"""Clients that call, train and note what they were told; they try again as clients do."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from uuid import uuid4

# What a client waits for an answer: longer than the site does.
_TIMEOUT = 45.0
# A client that was refused, or reached nobody, waits this long.
_PAUSE = 0.2
TRAINING = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}
# States of jobs that do not change any more.
ENDED = ("succeeded", "failed", "canceled")
# Several chunks, so that a file outlives a worker.
FILE_ROWS = 600
_FORM = "form-of-a-file"


@dataclass
class Told:
    """What clients were told; the site must stand by it."""

    # Holds of answers with status 200.
    answered: list[str] = field(default_factory=list)
    # Idempotency-Key → the holds that its answers named.
    keyed: dict[str, set[str]] = field(default_factory=dict)
    # Idempotency-Key → the training it was told.
    trainings: dict[str, str] = field(default_factory=dict)
    # Predictions that run later, and batch files, that were acknowledged.
    later: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


class Load:
    """Threads that put load on a site until they are told to stop.

    Args:
        body: A prediction's JSON body.
        secret: The key of an organization that can pay.
    """

    def __init__(self, port: int, body: str, secret: str) -> None:
        self.told = Told()
        self._port, self._body, self._secret = port, body, secret
        self._ending, self._is_abandoned = threading.Event(), threading.Event()
        # As many as `start` starts: one that waited for a thread would put no load on the site.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="client")
        self._clients: list[Future[None]] = []

    def start(self) -> None:
        """Start three clients that call once, two that insist, and one for each kind of job."""
        jobs = [self._train, self._run_later, self._run_file]
        acts = [self._call] * 3 + [self._insist] * 2 + jobs
        self._clients = [self._threads.submit(self._repeat, act) for act in acts]

    def stop(self) -> None:
        """Let the clients finish what they began; raises what went wrong in one of them."""
        self._ending.set()
        for client in self._clients:
            client.result()
        self._threads.shutdown()

    def abandon(self) -> None:
        """End the clients where they are: the site is gone."""
        self._ending.set()
        self._is_abandoned.set()
        self._threads.shutdown()

    def is_answered(self) -> bool:
        """Whether one prediction is answered now."""
        status, _ = self._post("/v1/predictions", self._body)
        return status == 200

    def _repeat(self, act: Any) -> None:
        while not self._ending.is_set():
            act()

    def _call(self) -> None:
        status, answer = self._post("/v1/predictions", self._body)
        if status == 200:
            self.told.answered.append(answer["cost"]["hold"])
        else:
            self._ending.wait(_PAUSE)

    def _insist(self) -> None:
        """Send a call with one key until it is answered, then once more."""
        key = str(uuid4())
        holds = self.told.keyed.setdefault(key, set())
        for _ in range(2):
            answer = self._until("/v1/predictions", self._body, key, wanted=200)
            holds.add(answer["cost"]["hold"])

    def _train(self) -> None:
        key = str(uuid4())
        answer = self._until("/v1/trainings", json.dumps(TRAINING), key, wanted=201)
        self.told.trainings[key] = answer["id"]
        self._follow(f"/v1/trainings/{answer['id']}")

    def _run_later(self) -> None:
        key, wish = str(uuid4()), {"Prefer": "respond-async"}
        answer = self._until("/v1/predictions", self._body, key, wanted=202, headers=wish)
        self.told.later.append(answer["id"])
        self._follow(f"/v1/predictions/{answer['id']}")

    def _run_file(self) -> None:
        found = json.loads(self._body)
        line = json.dumps({"input": found["input"]}) + "\n"
        parts = {"model": found["model"], "start": "true", 'file"; filename="rows.jsonl': line}
        body = "".join(
            f'--{_FORM}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            f"{value * (FILE_ROWS if value is line else 1)}\r\n"
            for name, value in parts.items()
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={_FORM}"}
        whole = f"{body}--{_FORM}--\r\n"
        answer = self._until("/v1/batches", whole, str(uuid4()), wanted=201, headers=kind)
        self.told.files.append(answer["id"])
        self._follow(f"/v1/batches/{answer['id']}")

    def _follow(self, path: str) -> None:
        """Wait for the end of a job, so that jobs never pile up; not while all end."""
        while not self._ending.is_set():
            status, answer = self._send("GET", path)
            if status == 200 and answer["status"] in ENDED:
                return
            self._ending.wait(_PAUSE)

    def _until(
        self,
        path: str,
        body: str,
        key: str,
        *,
        wanted: int,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Repeat a request with the same key until it has the status; also while all end.

        Raises:
            AssertionError: The site is gone.
        """
        while not self._is_abandoned.is_set():
            status, answer = self._post(path, body, **{"Idempotency-Key": key}, **(headers or {}))
            # What has ended in between is not accepted any more, it is answered.
            if status in {wanted, 200}:
                return answer
            self._is_abandoned.wait(_PAUSE)
        raise AssertionError(f"{path} was never answered with {wanted}")

    def _post(self, path: str, body: str, **headers: str) -> tuple[int, Any]:
        return self._send("POST", path, body, **headers)

    def _send(
        self, method: str, path: str, body: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Return status and body; 0 where the connection broke."""
        headers = {
            "Authorization": f"Bearer {self._secret}",
            "Content-Type": "application/json",
            **headers,
        }
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException):
            self.told.statuses["no answer"] += 1
            return 0, None
        finally:
            connection.close()
        code = "" if response.status < 400 else f" {answer['error']['code']}"
        self.told.statuses[f"{response.status}{code}"] += 1
        return response.status, answer
