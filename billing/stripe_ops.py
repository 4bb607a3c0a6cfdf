"""Every POST that moves money at Stripe: written down, then sent, under one key until it is known.

The row and its parameters are frozen before the first attempt. An outcome that is not known is
asked again under the same key, for 23 hours; Stripe may forget the key after 24. After that only a
look at Stripe's own records may decide, and nothing is sent blindly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import User
from billing.models import StripeOp
from billing.stripe.errors import RejectedError, StripeCallError
from billing.stripe.objects import as_json

# An hour less than Stripe keeps a key at least.
KEY_LIVES = timedelta(hours=23)
_ERROR_MAX = 500
# How an attempt ends that never reached Stripe, as its own records showed.
_ABSENCE = {"code": "absent", "message": "Stripe has no such object.", "decline_code": ""}

State = StripeOp.State
# Sends the frozen parameters under a key, and returns one of `billing.stripe.objects`.
Call = Callable[[Mapping[str, Any], str], object]
# Looks at Stripe for what a lost call made; None only if it is certain that there is nothing.
Find = Callable[[], object | None]


class ParamsChangedError(Exception):
    """The same business key with other parameters: another amount is another operation."""


class OutcomeUnknownError(Exception):
    """Sent more than 23 hours ago, and there is no way to look: an operator must."""


def run(
    kind: str,
    business_key: str,
    call: Call,
    params: Mapping[str, Any],
    *,
    find: Find | None = None,
    compensated: int = 0,
) -> StripeOp:
    """Carry out an operation once, however often this is called.

    Args:
        kind: Such as `transfer`.
        business_key: What makes it the same operation, such as a payout's id.
        call: Sends it.
        params: Plain values; frozen with the first call.
        find: Looks the outcome up at Stripe when the key may be forgotten.
        compensated: The last attempt whose booking the ledger has taken back after it was
            rejected: only then is the operation tried again, under a new key.

    Returns:
        The operation, done: `stripe_id` and `response` say what was made.

    Raises:
        RejectedError: Stripe refused, now or before.
        AmbiguousError: Not known; call again later.
        RateLimitedError: Nothing happened; call again later.
        MisconfiguredError: Nothing happened; an operator must act.
        ParamsChangedError: A mistake of the caller.
        OutcomeUnknownError: An operator must look.
        RuntimeError: Called inside a transaction: the row would not survive a crash.
    """
    op = _open(kind, business_key, params, compensated)
    if _is_stale(op):
        op = _look_up(op, find, params)
    if op.state == State.OK:
        return op
    if op.state == State.REJECTED:
        raise _rejection(op)
    return _send(op, call)


def _open(kind: str, business_key: str, params: Mapping[str, Any], compensated: int) -> StripeOp:
    latest = (
        StripeOp.objects.filter(kind=kind, business_key=business_key).order_by("-attempt").first()
    )
    if latest is None:
        return _create(kind, business_key, 1, params)
    if latest.state == State.REJECTED and latest.attempt <= compensated:
        return _create(kind, business_key, latest.attempt + 1, params)
    _check_frozen(latest, params)
    if latest.state == State.REJECTED and _rejection(latest).code == _ABSENCE["code"]:
        return _create(kind, business_key, latest.attempt + 1, params)
    return latest


def _create(kind: str, business_key: str, attempt: int, params: Mapping[str, Any]) -> StripeOp:
    # Durable: before anything is sent, the row is on disk.
    with transaction.atomic(durable=True):
        op, _ = StripeOp.objects.get_or_create(
            kind=kind,
            business_key=business_key,
            attempt=attempt,
            defaults={
                "idem_key": f"{kind}:{business_key}:a{attempt}",
                "request_hash": fingerprint(params),
                "params": dict(params),
            },
        )
    _check_frozen(op, params)
    return op


def _check_frozen(op: StripeOp, params: Mapping[str, Any]) -> None:
    if op.request_hash != fingerprint(params):
        raise ParamsChangedError(f"{op.idem_key} was opened with other parameters")


def fingerprint(params: Mapping[str, Any]) -> str:
    """Return what two calls with the same parameters have in common."""
    text = json.dumps(dict(params), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_stale(op: StripeOp) -> bool:
    is_open = op.state in {State.SENT, State.UNKNOWN}
    horizon = timezone.now() - KEY_LIVES
    return is_open and op.first_sent_at is not None and op.first_sent_at < horizon


def _look_up(op: StripeOp, find: Find | None, params: Mapping[str, Any]) -> StripeOp:
    if find is None:
        raise OutcomeUnknownError(f"{op.idem_key} was sent at {op.first_sent_at}")
    found = find()
    if found is not None:
        return _finish(op, State.OK, response=as_json(found))
    _finish(op, State.REJECTED, response=_ABSENCE, error=_ABSENCE["message"])
    return _create(op.kind, op.business_key, op.attempt + 1, params)


def _send(op: StripeOp, call: Call) -> StripeOp:
    with transaction.atomic(durable=True):
        StripeOp.objects.filter(pk=op.pk, state__in=[State.PENDING, State.UNKNOWN]).update(
            state=State.SENT, first_sent_at=op.first_sent_at or timezone.now()
        )
    try:
        made = call(op.params, op.idem_key)
    except RejectedError as error:
        refusal = {
            "code": error.code,
            "message": error.message,
            "decline_code": error.decline_code,
            "object_id": error.object_id,
        }
        _finish(op, State.REJECTED, response=refusal, error=str(error))
        raise
    except StripeCallError as error:
        # Also if nothing happened this time: what happened before, or in another process at this
        # moment, is not known.
        StripeOp.objects.filter(pk=op.pk, state=State.SENT).update(
            state=State.UNKNOWN, last_error=str(error)[:_ERROR_MAX]
        )
        raise
    return _finish(op, State.OK, response=as_json(made))


def _finish(
    op: StripeOp, state: StripeOp.State, *, response: dict[str, Any], error: str = ""
) -> StripeOp:
    StripeOp.objects.filter(pk=op.pk).exclude(state__in=[State.OK, State.REJECTED]).update(
        state=state,
        stripe_id=response.get("id", "") or "",
        response=response,
        last_error=error[:_ERROR_MAX],
        finished_at=timezone.now(),
    )
    op.refresh_from_db()
    return op


def decide(op: StripeOp, stripe_id: str, *, actor: User | None, reason: str) -> None:
    """Write down what an operator found out about an operation whose outcome is not known.

    Args:
        op: The operation.
        stripe_id: What it made at Stripe; empty if there is nothing: it is sent again then.
        actor: The operator.
        reason: How they know.

    Raises:
        ConflictError: The site can still find out itself, or knows.
    """
    if not _is_stale(op):
        raise ConflictError("Only an operation that was sent more than 23 hours ago can be ended.")
    with transaction.atomic():
        if stripe_id:
            _finish(op, State.OK, response={"id": stripe_id, "by_hand": True})
        else:
            _finish(op, State.REJECTED, response=_ABSENCE, error=_ABSENCE["message"])
        details = {"stripe_id": stripe_id}
        audit.record(actor, "stripe_op.decided", op, reason=reason, details=details)


def _rejection(op: StripeOp) -> RejectedError:
    said = op.response or {}
    return RejectedError(
        said.get("message", ""),
        code=said.get("code", ""),
        decline_code=said.get("decline_code", ""),
        object_id=said.get("object_id", ""),
    )
