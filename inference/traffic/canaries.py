"""A new version on a part of the calls: start, change, promote, stop, roll back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import audit, mail
from accounts.errors import ConflictError, InvalidRequestError
from accounts.models import User
from catalog import publishing
from catalog.models import MLModel, ModelVersion
from inference.models import Canary
from inference.webhooks import events

State = Canary.State
CANARY_ENDED = events.register("canary.ended", _("A canary was promoted, stopped or rolled back."))


@dataclass(frozen=True, slots=True)
class Rule:
    """How much goes to the canary, and when it is rolled back.

    Attributes:
        max_slowdown_percent: By how much the p95 of its runs may exceed the current version's.
        min_calls: Calls that must have ended before anything is decided.
    """

    percent: int = 5
    max_error_percent: int = 5
    max_slowdown_percent: int = 100
    min_calls: int = 50


BOUNDS = {
    "percent": (1, 100),
    "max_error_percent": (0, 100),
    "max_slowdown_percent": (0, 10_000),
    "min_calls": (1, 1_000_000),
}


def running(model: MLModel) -> Canary | None:
    """Return what is tried on a model's calls, if its version is on offer."""
    found = model.canaries.filter(
        state=State.RUNNING, version__status=ModelVersion.Status.PUBLISHED
    )
    return found.select_related("version").exclude(version=model.current_version_id).first()


def start(version: ModelVersion, rule: Rule, *, actor: User | None, via: str = "") -> Canary:
    """Give a version a part of the calls to its model's name.

    The current version is pinned: what is published later does not take its place.

    Raises:
        ConflictError: It cannot be tried: not on offer, current, of another form, or another
            one is tried already.
        InvalidRequestError: The rule is out of bounds.
    """
    check(rule)
    model = version.model
    current = model.current_version
    if version.status != ModelVersion.Status.PUBLISHED:
        raise ConflictError("This version is not on offer.")
    if current is None or current.pk == version.pk:
        raise ConflictError("This is the current version: it has all the calls already.")
    if current.signature != version.signature:
        raise ConflictError("Its inputs or outputs differ from the current version's.")
    try:
        with transaction.atomic():
            publishing.pin(model, current, actor=actor, reason="canary", via=via)
            canary = Canary.objects.create(model=model, version=version, **asdict(rule))
            _audit(canary, "canary.started", actor, via, asdict(rule))
    except IntegrityError:
        raise ConflictError("Another version is tried on this model already.") from None
    return canary


def change(canary: Canary, rule: Rule, *, actor: User | None, via: str = "") -> None:
    """Change how much goes to a canary and when it is rolled back.

    Raises:
        ConflictError: It has ended.
        InvalidRequestError: The rule is out of bounds.
    """
    check(rule)
    with transaction.atomic():
        if not Canary.objects.filter(pk=canary.pk, state=State.RUNNING).update(**asdict(rule)):
            raise ConflictError("This canary has ended.")
        _audit(canary, "canary.changed", actor, via, asdict(rule))


def check(rule: Rule) -> None:
    """Refuse a rule that is out of bounds.

    Raises:
        InvalidRequestError: Naming what is wrong.
    """
    for name, value in asdict(rule).items():
        low, high = BOUNDS[name]
        if not low <= value <= high:
            raise InvalidRequestError(
                f"`{name}` must be a whole number, {low} to {high}.", param=name
            )


def promote(canary: Canary, *, actor: User | None, via: str = "") -> bool:
    """Make a canary the current version; False if it has ended."""
    with transaction.atomic():
        if not _end(canary, State.PROMOTED, actor=actor, via=via):
            return False
        publishing.pin(canary.model, canary.version, actor=actor, reason="canary", via=via)
    return True


def stop(canary: Canary, *, actor: User | None, reason: str = "", via: str = "") -> bool:
    """End a canary: all calls go to the current version again; False if it has ended."""
    return _end(canary, State.STOPPED, actor=actor, reason=reason, via=via)


def roll_back(canary: Canary, cause: str, measured: Mapping[str, Any]) -> bool:
    """End a canary because of what was counted, and tell the owners; False if it has ended."""
    with transaction.atomic():
        if not _end(canary, State.ROLLED_BACK, actor=None, cause=cause, measured=measured):
            return False
        context = {"model": canary.model.path, "version": canary.version.number, "cause": cause}
        mail.queue(
            f"canary:{canary.pk}",
            mail.owners(canary.model.owner),
            "inference/email/canary_rolled_back",
            {**context, **measured, "path": f"/console/traffic/{canary.model.name}"},
        )
    return True


def _end(
    canary: Canary,
    state: str,
    *,
    actor: User | None,
    reason: str = "",
    via: str = "",
    cause: str = "",
    measured: Mapping[str, Any] | None = None,
) -> bool:
    ended_at = timezone.now()
    with transaction.atomic():
        changed = Canary.objects.filter(pk=canary.pk, state=State.RUNNING).update(
            state=state, ended_at=ended_at, cause=cause, measured=dict(measured or {})
        )
        if not changed:
            return False
        canary.refresh_from_db()
        _audit(canary, f"canary.{state}", actor, via, canary.measured, reason=reason or cause)
        events.emit(
            canary.model.owner_id,
            CANARY_ENDED,
            f"evt_canary_{canary.pk}",
            as_json(canary),
            occurred_at=ended_at,
        )
    return True


def as_json(canary: Canary) -> dict[str, Any]:
    """Return what the API and the webhooks say of a canary."""
    return {
        "id": canary.pk,
        "object": "canary",
        "model": canary.model.path,
        "version": canary.version.number,
        "state": canary.state,
        **{name: getattr(canary, name) for name in BOUNDS},
        "cause": canary.cause or None,
        "measured": canary.measured or None,
        "started_at": canary.started_at,
        "ended_at": canary.ended_at,
    }


def _audit(
    canary: Canary,
    action: str,
    actor: User | None,
    via: str,
    details: Mapping[str, Any],
    *,
    reason: str = "",
) -> None:
    audit.record(
        actor,
        action,
        canary,
        organization=canary.model.owner,
        reason=reason,
        details=dict(details),
        via=via,
    )
