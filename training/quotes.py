"""Quotes for what is known here: runs of models, and trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts.errors import InvalidRequestError
from accounts.keys import Caller
from billing import outcomes, quotes, shares
from billing.models import Quote
from billing.money import decimal_text
from catalog.models import ModelVersion
from inference import predictions, versions
from inference.errors import WrongTaskError
from training import estimates, jobs
from training.jobs import Order


def of_prediction(caller: Caller, ref: str, *, rows: int | None, value: Any, size: int) -> Quote:
    """Promise the price of one call.

    Args:
        rows: How many rows; None counts those of `value`.
        value: The input as it will be sent, if `rows` is None.
        size: The most bytes the call's body may have.

    Raises:
        ModelNotFoundError, NoPriceError: There is nothing to quote.
        WrongTaskError: The calls of models that write text take no quote.
        MercatoError: The input does not fit the signature.
    """
    served = versions.resolve(ref, caller)
    if served.signature.input_kind == "prompt":
        raise WrongTaskError(
            "This model writes text: what that may cost at most is asked for with "
            "`Mercato-Max-Cost`.",
            param="model",
        )
    plan = served.terms.plan
    counted = predictions.count(value, served.signature) if rows is None else {"row": rows}
    quantities = {"call": 1, "byte": size} | counted
    if not plan.components.keys() & quantities.keys():
        raise InvalidRequestError(
            "The price of this model counts tokens: ask with `input`.", param="input"
        )
    return quotes.make(
        caller.organization_id,
        plan,
        share_version_id=served.share_version_id,
        quantities=quantities,
        model_version_id=served.version_id,
        subject={"model": served.path},
    )


def of_training(caller: Caller, wanted: Order) -> Quote:
    """Promise the price of one training.

    Raises:
        TrainingTooLongError: It would take longer than a training may.
    """
    found = estimates.estimate(wanted.recipe, wanted.data, wanted.hyperparameters)
    return quotes.make(
        caller.organization_id,
        found.plan,
        share_version_id=shares.current().pk,
        quantities={"compute_ms": found.max_seconds * 1000},
        subject=jobs.quoted(wanted),
    )


def as_json(quote: Quote) -> dict[str, Any]:
    """Return what the API says of a quote."""
    policy: Mapping[str, int] = estimates.POLICY
    if quote.model_version_id is not None:
        policy = ModelVersion.objects.get(pk=quote.model_version_id).outcome_policy
    is_training = quote.model_version_id is None
    return {
        "id": str(quote.pk),
        "object": "quote",
        "status": quotes.state(quote),
        "model": quote.subject.get("model"),
        "training": quote.subject if is_training else None,
        "amount": decimal_text(quote.amount_nanos),
        "currency": quote.currency,
        "units": quote.quantities,
        "price_version": quote.price_version_id,
        "outcome_policy": outcomes.complete(policy),
        "outcome_policy_text": outcomes.texts(),
        "hold": str(quote.hold_id) if quote.hold_id else None,
        "created_at": quote.created_at,
        "expires_at": quote.expires_at,
    }
