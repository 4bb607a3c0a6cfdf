"""Writes the texts of a claim together; each ends when it has been written, or canceled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from django.db import transaction

from inference import inputs, loading
from inference.asynchronous import events, payloads, sweeping
from inference.asynchronous.claims import mine
from inference.asynchronous.endings import Ran
from inference.generation import steps
from inference.generation.texts import Writing
from inference.generation.wanted import Wanted
from inference.models import Prediction
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature
from inference.runtime.writers import WriterSession

logger = logging.getLogger(__name__)
# How often the rows are told how much has been written, and asked whether it is still wanted.
TELL_SECONDS = 1.0
# Of a text whose row has ended, or is another worker's.
_GONE = "canceled"
_Pair = tuple[Prediction, Writing]


def write(
    session: WriterSession, begun: Sequence[Prediction], owner: str, is_stopping: Callable[[], bool]
) -> Iterator[list[Ran]]:
    """Write texts whenever live calls leave room; yields those that have ended, as they end.

    Args:
        is_stopping: Returns whether the worker is asked to stop; others write the rest then.
    """
    signature = loading.signature_of(begun[0].model_version_id)
    wanted, unreadable = _read(begun, signature, owner)
    if unreadable:
        yield unreadable
    texts = steps.begin(session, list(wanted.values()), signature.vocabulary)
    under_way = list(zip(wanted, texts, strict=True))
    told_at = time.monotonic()
    for _ in steps.write(session, texts):
        if time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            _tell(under_way)
        ended = [pair for pair in under_way if pair[1].has_ended]
        under_way = [pair for pair in under_way if not pair[1].has_ended]
        if ours := [pair for pair in ended if pair[1].outcome != _GONE]:
            yield [_ran(*pair, signature, owner, len(texts)) for pair in ours]
        if is_stopping():
            _give_back(under_way)
            return


def _read(
    begun: Sequence[Prediction], signature: Signature, owner: str
) -> tuple[dict[Prediction, Wanted], list[Ran]]:
    wanted: dict[Prediction, Wanted] = {}
    unreadable: list[Ran] = []
    for one, value in zip(begun, payloads.inputs(begun), strict=True):
        try:
            found = inputs.read(value, signature, str(one.hold_id))
        except InputError:
            # It was checked when it was accepted: this is ours to explain.
            logger.exception("prediction %s cannot be read", one.pk)
            unreadable.append(Ran(one, "platform_error", None, 0, 0, owner))
        else:
            assert isinstance(found, Wanted)
            wanted[one] = found
    return wanted, unreadable


def _tell(under_way: Sequence[_Pair]) -> None:
    """Note how much has been written: what is canceled meanwhile costs that."""
    # In one order everywhere: two who change the same rows do not wait in a circle.
    pairs = sorted(under_way, key=lambda pair: pair[0].pk)
    with transaction.atomic():
        for prediction, text in pairs:
            if not mine(prediction).update(output_tokens=text.output_tokens) and not text.outcome:
                text.fail(_GONE)


def _ran(
    prediction: Prediction, text: Writing, signature: Signature, owner: str, together: int
) -> Ran:
    prediction.output_tokens = text.output_tokens
    output = {signature.outputs[0].name: text.written, "finish_reason": text.reason}
    return Ran(
        prediction,
        text.outcome,
        output if text.outcome == "succeeded" else None,
        run_us=(time.perf_counter_ns() - text.started_ns) // 1000,
        batch_rows=together,
        worker=owner,
    )


def _give_back(under_way: Sequence[_Pair]) -> None:
    """Let another worker write these, from the beginning."""
    events.tell([one for one, _ in under_way if sweeping.requeue(one)])
