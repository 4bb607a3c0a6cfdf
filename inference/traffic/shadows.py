"""A version that runs copies of calls beside the current one: start, change, stop, count."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError, InvalidRequestError
from accounts.models import User
from catalog.models import MLModel, ModelVersion
from inference.models import Shadow
from inference.runtime.signature import Signature
from inference.runtime.tensors import TEXT_KINDS

State = Shadow.State
PERCENT = 5
LOW, HIGH = 1, 100
# A version that is not offered yet may be tried this way: nobody sees its answers.
ABLE = (ModelVersion.Status.DRAFT, ModelVersion.Status.PUBLISHED)


@dataclass(slots=True)
class Tally:
    """What became of copies, by the names of the columns it is added to."""

    calls: int = 0
    failures: int = 0
    agreed: int = 0
    run_us_total: int = 0
    stable_run_us_total: int = 0
    batch_rows_total: int = 0
    stable_batch_rows_total: int = 0


def running(model: MLModel) -> Shadow | None:
    """Return what runs copies of a model's calls now."""
    return _running(model.shadows.all())


def by_id(shadow_id: int) -> Shadow | None:
    """Return a shadow if its copies count now."""
    return _running(Shadow.objects.filter(pk=shadow_id))


def _running(found: models.QuerySet[Shadow]) -> Shadow | None:
    related = found.select_related("version", "model__current_version")
    shadow = _counting(related).first()
    if shadow is None or shadow.model.current_version is None:
        return None
    # Another version may have become current: its calls do not fit.
    fits = shadow.model.current_version.signature == shadow.version.signature
    return shadow if fits else None


def _counting(found: models.QuerySet[Shadow]) -> models.QuerySet[Shadow]:
    """Leave out what has ended, is withdrawn, or has nothing to be compared with."""
    able = found.filter(
        state=State.RUNNING, version__status__in=ABLE, model__current_version__isnull=False
    )
    return able.exclude(version=F("model__current_version"))


def put(version: ModelVersion, percent: int | None, *, actor: User | None, via: str = "") -> Shadow:
    """Have a version run copies of calls, or change of how many.

    Args:
        percent: Of a hundred calls to the current version; None: as it is, at first 5.

    Raises:
        ConflictError: It cannot: withdrawn, current, of another form, a model of text, or another
            version does so already.
        InvalidRequestError: The percentage is out of bounds.
    """
    if percent is not None and not LOW <= percent <= HIGH:
        raise InvalidRequestError(
            f"`percent` must be a whole number, {LOW} to {HIGH}.", param="percent"
        )
    _require_fit(version)
    shadow = version.model.shadows.filter(state=State.RUNNING, version=version).first()
    if shadow is None:
        return _start(version, percent or PERCENT, actor=actor, via=via)
    _change(shadow, percent or shadow.percent, actor=actor, via=via)
    return shadow


def _require_fit(version: ModelVersion) -> None:
    current = version.model.current_version
    if version.status not in ABLE:
        raise ConflictError("This version is withdrawn.")
    if current is None:
        raise ConflictError("The model has no current version whose calls could be copied.")
    if current.pk == version.pk:
        raise ConflictError("This is the current version: it would be compared with itself.")
    if current.signature != version.signature:
        raise ConflictError("Its inputs or outputs differ from the current version's.")
    if Signature.from_json(version.signature).input_kind in TEXT_KINDS:
        raise ConflictError("Calls of models that read or write text are not copied.")


def _start(version: ModelVersion, percent: int, *, actor: User | None, via: str) -> Shadow:
    model = version.model
    try:
        with transaction.atomic():
            before = model.shadows.filter(state=State.RUNNING).first()
            if before is not None and running(model) is None:
                # It runs by name only, its version has gone or is current: it makes room.
                stop(before, actor=actor, via=via)
            shadow = Shadow.objects.create(model=model, version=version, percent=percent)
            _audit(shadow, "shadow.started", actor, via)
    except IntegrityError:
        raise ConflictError("Another version runs copies of this model's calls already.") from None
    return shadow


def _change(shadow: Shadow, percent: int, *, actor: User | None, via: str) -> None:
    with transaction.atomic():
        going_on = Shadow.objects.filter(pk=shadow.pk, state=State.RUNNING)
        if not going_on.update(percent=percent):
            raise ConflictError("This shadow has ended.")
        shadow.percent = percent
        _audit(shadow, "shadow.changed", actor, via)


def stop(shadow: Shadow, *, actor: User | None, reason: str = "", via: str = "") -> bool:
    """Copy no more calls; what was counted stays. False if it has ended."""
    with transaction.atomic():
        going_on = Shadow.objects.filter(pk=shadow.pk, state=State.RUNNING)
        if not going_on.update(state=State.STOPPED, ended_at=timezone.now()):
            return False
        shadow.refresh_from_db()
        _audit(shadow, "shadow.stopped", actor, via, reason=reason)
    return True


def add(shadow_id: int, tally: Tally) -> bool:
    """Add what was counted, in one statement; False if the shadow does not count any more."""
    more = {name: F(name) + number for name, number in asdict(tally).items() if number}
    return bool(more and _counting(Shadow.objects.filter(pk=shadow_id)).update(**more))


def as_json(shadow: Shadow) -> dict[str, Any]:
    """Return what the API says of a shadow."""
    return {
        "id": shadow.pk,
        "object": "shadow",
        "model": shadow.model.path,
        "version": shadow.version.number,
        "state": shadow.state,
        "percent": shadow.percent,
        **measured(shadow),
        "started_at": shadow.started_at,
        "ended_at": shadow.ended_at,
    }


def measured(shadow: Shadow) -> dict[str, Any]:
    """Return what was counted."""
    return {
        "calls": shadow.calls,
        "failures": shadow.failures,
        "agreed_percent": shadow.agreed_percent,
        "mean_us": shadow.mean_us,
        "stable_mean_us": shadow.stable_mean_us,
        "mean_rows": shadow.mean_rows,
        "stable_mean_rows": shadow.stable_mean_rows,
    }


def _audit(shadow: Shadow, action: str, actor: User | None, via: str, *, reason: str = "") -> None:
    counted = measured(shadow) if shadow.state == State.STOPPED else {}
    audit.record(
        actor,
        action,
        shadow,
        organization=shadow.model.owner,
        reason=reason,
        details={"version": shadow.version.number, "percent": shadow.percent, **counted},
        via=via,
    )
