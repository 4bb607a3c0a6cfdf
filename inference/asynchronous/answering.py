"""How POST /v1/predictions answers with `Prefer`: 202 and the row, or what came of it in time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from accounts import rate_headers
from accounts.errors import MercatoError
from billing import caps
from inference import limits, predictions, streams
from inference.answers import dumps
from inference.asynchronous import accepting, snapshots
from inference.asynchronous.events import SOURCE
from inference.faces.http import Header, HttpAnswer
from inference.limits.gate import Counted
from inference.metrics import counting, families
from inference.models import Prediction
from inference.predictions import in_database

if TYPE_CHECKING:
    from inference.asynchronous.accepting import Accepted
    from inference.asynchronous.wishes import Wish
    from inference.predictions import Call
    from inference.versions import Served


async def answer(call: Call, wish: Wish) -> HttpAnswer:
    """Accept a prediction and wait for its end as long as the caller wishes.

    Raises:
        MercatoError: It was not accepted; nothing was charged.
    """
    served = await predictions.find(call)
    began_ns, kind = time.perf_counter_ns(), families.ASYNC
    try:
        accepted, counted = await _accept(call, wish, served)
    except MercatoError as error:
        # What is accepted is counted when it ends.
        model, organization_id = served.model_path, call.caller.organization_id
        took = counting.since(began_ns)
        counting.call(model, organization_id, error.code, took, kind=kind)
        raise
    prediction = accepted.prediction
    if wish.wait_seconds and not prediction.is_ended:
        await streams.wait_ended(SOURCE, prediction.pk, wish.wait_seconds)
        prediction = await in_database(_read, prediction)
    body = await in_database(partial(snapshots.as_json, prediction, with_input=False))
    left: tuple[Header, ...] = ()
    if accepted.admission is not None:
        left = caps.headers(accepted.admission)
    if counted is not None and counted.standing is not None:
        left = rate_headers.join(b", ", left, counted.standing.headers)
    return _write(call, accepted, prediction, body, left)


async def _accept(call: Call, wish: Wish, served: Served) -> tuple[Accepted, Counted | None]:
    checked = await predictions.decoded_later(call, served)
    counted = await limits.enter(call.caller, checked.rows)
    try:
        # Who waits for the end does not run: only the request itself is one at a time.
        accepted = await in_database(accepting.accept, call, wish, served, checked)
    finally:
        limits.leave(counted)
    return accepted, counted


def _read(prediction: Prediction) -> Prediction:
    # Forgotten meanwhile: what was accepted is what is known.
    return Prediction.objects.with_version().filter(pk=prediction.pk).first() or prediction


def _write(
    call: Call,
    accepted: Accepted,
    prediction: Prediction,
    body: dict[str, Any],
    left: tuple[Header, ...],
) -> HttpAnswer:
    headers: list[Header] = []
    if call.wish is not None and call.wish.applied:
        headers.append((b"preference-applied", call.wish.applied.encode()))
    if not prediction.is_ended:
        headers.append((b"location", f"/v1/predictions/{prediction.pk}".encode()))
        headers.append((b"retry-after", b"1"))
    elif body["cost"]:
        headers.append((b"mercato-cost", body["cost"]["amount"].encode()))
    if not accepted.is_new:
        headers.append((b"idempotent-replayed", b"true"))
    # A PUT that is repeated has nothing left to accept.
    is_known = call.prediction_id is not None and not accepted.is_new
    status = 200 if prediction.is_ended or is_known else 202
    return HttpAnswer(dumps(body), status=status, headers=(*headers, *left))
