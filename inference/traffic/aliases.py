"""Names for versions: two that every model has, and those its publisher makes."""

from __future__ import annotations

import re

from django.db import transaction

from accounts import audit
from accounts.errors import ConflictError, InvalidRequestError
from accounts.models import User
from catalog import publishing
from catalog.models import MLModel, ModelVersion
from inference.models import VersionAlias
from inference.models.traffic import ALIAS_PATTERN
from inference.traffic import canaries

# The current version; the one that is tried, or the current one while none is.
STABLE, CANARY = "stable", "canary"
MOST = 20
Status = ModelVersion.Status


def version_of(model: MLModel, tag: str) -> ModelVersion | None:
    """Return the version on offer that a number or an alias means; empty: the current one."""
    on_offer = model.versions.filter(status=Status.PUBLISHED)
    if tag.isdecimal():
        return on_offer.filter(number=int(tag)).first()
    if tag == CANARY and (canary := canaries.running(model)):
        return canary.version
    if tag in {"", STABLE, CANARY}:
        return on_offer.filter(pk__in=[model.current_version_id]).first()
    return on_offer.filter(pk__in=model.aliases.filter(name=tag).values("version")).first()


def set_alias(
    model: MLModel, name: str, version: ModelVersion, *, actor: User | None, via: str = ""
) -> None:
    """Let an alias mean a version; calls follow within five seconds.

    `stable` is what a name without a number means: the version is pinned.

    Raises:
        InvalidRequestError: The name is not one, or means something already.
        ConflictError: The version is not on offer, or there are too many aliases.
    """
    _require_free(name)
    if version.model_id != model.pk or version.status != Status.PUBLISHED:
        raise ConflictError("This version is not on offer.")
    if name == STABLE:
        publishing.pin(model, version, actor=actor, via=via)
        return
    with transaction.atomic():
        MLModel.objects.select_for_update().get(pk=model.pk)
        others = model.aliases.exclude(name=name)
        if others.count() >= MOST:
            raise ConflictError(f"A model has at most {MOST} aliases.")
        VersionAlias.objects.update_or_create(model=model, name=name, defaults={"version": version})
        details = {"alias": name, "version": version.number}
        audit.record(actor, "alias.set", model, organization=model.owner, details=details, via=via)


def remove(model: MLModel, name: str, *, actor: User | None, via: str = "") -> bool:
    """Remove an alias; `stable` means the newest version again. False if there is none."""
    if name == STABLE:
        return publishing.pin(model, None, actor=actor, via=via)
    with transaction.atomic():
        deleted, _ = model.aliases.filter(name=name).delete()
        if deleted:
            audit.record(
                actor,
                "alias.removed",
                model,
                organization=model.owner,
                details={"alias": name},
                via=via,
            )
    return bool(deleted)


def _require_free(name: str) -> None:
    if not re.fullmatch(ALIAS_PATTERN, name):
        raise InvalidRequestError(
            "An alias has at most 31 small letters, digits and hyphens, and begins with a letter.",
            param="alias",
        )
    if name == CANARY:
        raise InvalidRequestError("`canary` is the version that is tried.", param="alias")
