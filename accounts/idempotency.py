"""POSTs that may be repeated: with an Idempotency-Key the effect comes once, the answer again.

The effect and its answer are one transaction, so this is for views that only write rows. A request
that was refused leaves nothing behind and is tried anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import vault
from accounts.authentication import caller_of
from accounts.errors import IdempotencyMismatchError, InvalidRequestError
from accounts.models import IdempotentAnswer

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
_MAX_LENGTH = 200

View = TypeVar("View", bound=APIView)
P = ParamSpec("P")
Handler = Callable[Concatenate[View, Request, P], Response]


def key_of(request: Request) -> str:
    """Return the key of a request; empty if it has none.

    Raises:
        InvalidRequestError: It is too long, or not printable.
    """
    key: str = request.headers.get(HEADER, "")
    if len(key) > _MAX_LENGTH or not key.isprintable():
        raise InvalidRequestError(
            f"An {HEADER} has at most {_MAX_LENGTH} printable characters.", param=HEADER
        )
    return key


def fingerprint(request: Request) -> str:
    """Return what makes a request the same: method, path and body."""
    body = orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"\0".join([b"POST", request.path.encode(), body])).hexdigest()


def once(handler: Handler[View, P]) -> Handler[View, P]:
    """Make a `post` method idempotent; its rows and its answer are one transaction."""

    @wraps(handler)
    def guarded(view: View, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Response:
        key = key_of(request)
        if not key:
            return handler(view, request, *args, **kwargs)
        organization_id = caller_of(request).organization_id
        mine = {"organization_id": organization_id, "key": key}
        print_ = fingerprint(request)
        if known := IdempotentAnswer.objects.filter(**mine).first():
            return _again(known, print_)
        try:
            with transaction.atomic():
                # Another request with this key waits here until this one has ended.
                row = IdempotentAnswer.objects.create(**mine, fingerprint=print_, status=0, body="")
                answer = handler(view, request, *args, **kwargs)
                row.status, row.body = answer.status_code, _sealed(answer.data)
                row.save(update_fields=["status", "body"])
        except IntegrityError:
            known = IdempotentAnswer.objects.filter(**mine).first()
            if known is None:
                raise
            return _again(known, print_)
        return answer

    return guarded


def _again(known: IdempotentAnswer, print_: str) -> Response:
    if known.fingerprint != print_:
        raise IdempotencyMismatchError(
            f"This {HEADER} was used with another request.", param=HEADER
        )
    return Response(
        orjson.loads(vault.unseal(known.body)),
        status=known.status,
        headers={"Idempotent-Replayed": "true"},
    )


def _sealed(data: Any) -> str:
    """Encrypt an answer: it may hold a secret that is shown once."""
    return vault.seal(orjson.dumps(data).decode())


def forget() -> int:
    """Delete answers that are not kept any longer; returns how many."""
    old = IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEPT)
    return old.delete()[0]
