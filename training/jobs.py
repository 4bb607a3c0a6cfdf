"""Trainings: start one, cancel one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.errors import IdempotencyMismatchError, UnknownFieldError
from accounts.keys import Caller
from accounts.models import Organization
from billing import alerts, holds, quotes, shares
from billing.errors import CapReachedError, QuoteExpiredError
from billing.models import Hold
from billing.quotes import Promise
from billing.reservations import Reservation
from catalog.models.models import NAME
from inference.errors import NotCancelableError
from training import doorbell, estimates
from training.errors import (
    InvalidDataError,
    InvalidHyperparameterError,
    InvalidNameError,
    InvalidRecipeError,
    JobLimitError,
)
from training.estimates import Estimate
from training.models import Job
from training.recipes import RECIPES
from training.recipes.hyperparameters import HyperparameterError, Hyperparameters, checked

MAX_OPEN = 10
# How far ahead a hold of an open job is kept from expiring.
HOLD_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for, checked."""

    recipe: str
    data: str
    hyperparameters: Hyperparameters
    publish_as: str = ""
    idempotency_key: str = ""
    fingerprint: str = ""
    # The binding quote to use.
    quote: str = ""
    # The most it may cost, in nanos: the header `Mercato-Max-Cost`.
    ceiling_nanos: int | None = None
    # When it is stopped, instead of what its estimate says.
    max_seconds: int | None = None
    pool: str = field(default_factory=lambda: str(settings.JOB_POOL))


def order(
    recipe: str,
    data: str = "",
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    publish_as: str = "",
    idempotency_key: str = "",
    fingerprint: str = "",
) -> Order:
    """Check what is asked for; what is not said takes the recipe's default.

    Raises:
        InvalidRecipeError, InvalidDataError, InvalidHyperparameterError, UnknownFieldError,
        InvalidNameError
    """
    found = RECIPES.get(recipe)
    if found is None:
        raise InvalidRecipeError(
            f"There is no recipe of this name; there are {', '.join(RECIPES)}.", param="recipe"
        )
    data = data or found.data[0]
    if data not in found.data:
        raise InvalidDataError(f"{recipe} can be trained on {', '.join(found.data)}.", param="data")
    require_name(publish_as, param="publish_as")
    return Order(
        recipe=recipe,
        data=data,
        hyperparameters=_checked(hyperparameters or {}, found.defaults(data)),
        publish_as=publish_as,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint,
    )


def require_name(name: str, *, param: str) -> None:
    """Refuse what cannot be the name of a model; nothing is fine.

    Raises:
        InvalidNameError
    """
    if name and not re.fullmatch(NAME.regex, name):
        raise InvalidNameError(
            "A model's name has small letters, digits and hyphens, at most 64.", param=param
        )


def _checked(raw: Mapping[str, Any], defaults: Hyperparameters) -> Hyperparameters:
    try:
        return checked(raw, defaults)
    except HyperparameterError as error:
        kind = UnknownFieldError if error.is_unknown else InvalidHyperparameterError
        raise kind(str(error), param=f"hyperparameters.{error.param}") from error


def start(caller: Caller, wanted: Order) -> tuple[Job, bool]:
    """Make a job and set its money aside, both or neither.

    Returns:
        The job, and whether it is new: the same Idempotency-Key gives the same job.

    Raises:
        RecipeUnavailableError, DataUnavailableError, TrainingTooLongError, JobLimitError,
        InsufficientCreditError, CapReachedError, OrganizationFrozenError, CostCeilingError,
        QuoteExpiredError, IdempotencyMismatchError: Nothing was made.
    """
    earlier = _replayed(caller, wanted)
    if earlier is not None:
        return earlier, False
    estimates.require_available(RECIPES[wanted.recipe], wanted.data)
    _require_room(caller)
    try:
        return create(caller, wanted), True
    except CapReachedError as error:
        alerts.note_refusals([error])
        raise
    except IntegrityError:
        # The same key, at the same moment, in another process.
        earlier = _replayed(caller, wanted)
        if earlier is None:
            raise
        return earlier, False


def create(caller: Caller, wanted: Order) -> Job:
    """Make a job and set its money aside in one transaction, then ring."""
    now = datetime.now(UTC)
    price = estimates.estimate(wanted.recipe, wanted.data, wanted.hyperparameters, at=now)
    promise = None
    if wanted.quote:
        promise, price = _promised(caller, wanted, price)
    if wanted.max_seconds is not None:
        price = estimates.limited(price, wanted.max_seconds)
    if wanted.ceiling_nanos is not None:
        price = estimates.within(price, wanted.ceiling_nanos)
    reservation = _reservation(caller, price, promise, now)
    with transaction.atomic():
        holds.reserve(reservation)
        job = Job.objects.create(
            organization_id=caller.organization_id,
            api_key_id=caller.api_key_id,
            user_id=caller.user_id,
            pool=wanted.pool,
            recipe=wanted.recipe,
            data=wanted.data,
            hyperparameters=wanted.hyperparameters.as_json(),
            publish_as=wanted.publish_as,
            hold_id=reservation.hold_id,
            max_seconds=price.max_seconds,
            idempotency_key=wanted.idempotency_key,
            fingerprint=wanted.fingerprint,
        )
        transaction.on_commit(partial(doorbell.ring, job.pool))
    return job


def quoted(wanted: Order) -> dict[str, Any]:
    """Return what a quote for a training is about: another training cannot use it."""
    return {
        "recipe": wanted.recipe,
        "data": wanted.data,
        "hyperparameters": wanted.hyperparameters.as_json(),
    }


def _promised(caller: Caller, wanted: Order, price: Estimate) -> tuple[Promise, Estimate]:
    """Return the quote that a training names, and the estimate by it."""
    quote = quotes.read(caller.organization_id, wanted.quote)
    if quote.subject != quoted(wanted):
        raise QuoteExpiredError("This quote is for another training. Nothing was charged.")
    # What was promised counts: price and time of then, not those of an estimate of today.
    promise = quotes.promise(quote, quantities=quote.quantities)
    return promise, estimates.limited(
        replace(price, plan=promise.plan), quote.quantities["compute_ms"] // 1000
    )


def _reservation(
    caller: Caller, price: Estimate, promise: Promise | None, now: datetime
) -> Reservation:
    return holds.prepare(
        caller,
        price.plan,
        share_version_id=promise.share_version_id if promise else shares.current().pk,
        quantities={"compute_ms": price.max_seconds * 1000},
        source=Hold.Source.TRAINING,
        accepted_at=now,
        expires_at=now + HOLD_AHEAD,
        quote_id=promise.quote_id if promise else None,
    )


def _replayed(caller: Caller, wanted: Order) -> Job | None:
    if not wanted.idempotency_key:
        return None
    job = Job.objects.filter(
        organization_id=caller.organization_id, idempotency_key=wanted.idempotency_key
    ).first()
    if job is not None and job.fingerprint != wanted.fingerprint:
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used with another request.", param="Idempotency-Key"
        )
    return job


def _require_room(caller: Caller) -> None:
    is_open = Job.objects.filter(organization_id=caller.organization_id).exclude(
        state__in=Job.TERMINAL
    )
    if is_open.count() >= MAX_OPEN:
        raise JobLimitError(
            f"{MAX_OPEN} trainings are under way. Wait for one to end or cancel one."
        )


def cancel(job: Job) -> Job:
    """End a job that waits, or ask a running one to stop; twice is fine.

    Raises:
        NotCancelableError: It has succeeded or failed.
    """
    # First the wish, then the row that still waits: whoever claims it in between sees the wish.
    is_open = Job.objects.filter(pk=job.pk).exclude(state__in=Job.TERMINAL)
    is_open.filter(cancel_requested_at=None).update(cancel_requested_at=Now())
    end_waiting(job.pk)
    job.refresh_from_db()
    if job.state in (Job.State.SUCCEEDED, Job.State.FAILED):
        raise NotCancelableError(f"This training has already {job.state}.")
    return job


def end_waiting(job_id: UUID) -> bool:
    """Cancel a job that no worker has; False if one has it or it has ended."""
    with transaction.atomic():
        ended = Job.objects.filter(pk=job_id, state=Job.State.QUEUED).update(
            state=Job.State.CANCELED, finished_at=Now(), error_code="canceled"
        )
        hold_id = Job.objects.values_list("hold_id", flat=True).get(pk=job_id)
        if ended and hold_id is not None:
            holds.void(hold_id, "canceled")
    return bool(ended)


def open_jobs(organization: Organization) -> int:
    """Return how many jobs of an organization have not ended."""
    return Job.objects.visible_to(organization).exclude(state__in=Job.TERMINAL).count()
