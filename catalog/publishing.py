"""Makes versions and says which of them are offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import Organization, User
from catalog import artifacts, prices
from catalog.models import MLModel, ModelVersion
from catalog.search import search_text

# Two publishers of one model at the same moment: the second takes the next number.
_TRIES = 5

Status = ModelVersion.Status


class ModelMismatchError(ConflictError):
    """A model of this name exists and is for another task or made with another framework."""

    code = "model_mismatch"


@dataclass(frozen=True, slots=True)
class Text:
    """A text in both languages."""

    en: str
    zh: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """Everything a version consists of."""

    title: Text
    summary: Text
    card: Text
    task: str
    framework: str
    runtime: str
    signature: Mapping[str, Any]
    # Kind of artifact → file or folder.
    files: Mapping[str, Path]
    # Dimension → (amount in nanos, for how many units); for a model without a price.
    price: Mapping[str, tuple[int, int]]
    parameters: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()
    outcome_policy: Mapping[str, int] = field(default_factory=dict)


def publish_version(
    owner: Organization,
    name: str,
    build: Build,
    *,
    is_public: bool = False,
    actor: User | None = None,
    then: Callable[[ModelVersion], None] | None = None,
) -> ModelVersion:
    """Make the next version of `owner/name`, and the model if it is new, and offer it.

    Args:
        then: Called in the same transaction with the new version.

    Raises:
        ModelMismatchError: The name belongs to another kind of model.
    """
    staged = artifacts.stage(build.files)
    try:
        for left in reversed(range(_TRIES)):
            try:
                with transaction.atomic():
                    version = _insert(owner, name, build, is_public=is_public)
                    if then is not None:
                        then(version)
                    artifacts.place(staged, version)
                    _offer(version, actor=actor, reason="")
                    return version
            except IntegrityError:
                if not left:
                    raise
        raise AssertionError("unreachable")
    finally:
        staged.discard()


def _insert(owner: Organization, name: str, build: Build, *, is_public: bool) -> ModelVersion:
    model, is_new = MLModel.objects.get_or_create(
        owner=owner,
        name=name,
        defaults={"task": build.task, "framework": build.framework, "is_public": is_public},
    )
    if not is_new and (model.task, model.framework) != (build.task, build.framework):
        raise ModelMismatchError(
            f"{model.path} is for {model.task} and made with {model.framework}; "
            "choose another name.",
            param="name",
        )
    _describe(model, build, is_public=is_public)
    if prices.current(model) is None:
        prices.add(model=model, components=build.price)
    newest = model.versions.aggregate(newest=Max("number"))["newest"] or 0
    return ModelVersion.objects.create(
        model=model,
        number=newest + 1,
        runtime=build.runtime,
        signature=dict(build.signature),
        outcome_policy=dict(build.outcome_policy),
        parameters=build.parameters,
        metrics=dict(build.metrics),
        training=dict(build.training),
        measurements=dict(build.measurements),
        examples=[dict(example) for example in build.examples],
        size_bytes=_served_bytes(build),
    )


def _describe(model: MLModel, build: Build, *, is_public: bool) -> None:
    model.title_en, model.title_zh = build.title.en, build.title.zh
    model.summary_en, model.summary_zh = build.summary.en, build.summary.zh
    model.card_en, model.card_zh = build.card.en, build.card.zh
    # Publishing can open a model to all; it never hides one.
    model.is_public = model.is_public or is_public
    model.search_text = search_text(model)
    model.save()


def _served_bytes(build: Build) -> int:
    kind = {"onnx": "onnx", "tensorflow": "saved_model"}[build.runtime]
    return sum(path.stat().st_size for path in artifacts.files_of(build.files[kind]))


def publish(version: ModelVersion, *, actor: User | None, reason: str = "") -> bool:
    """Offer a version; False if it is offered already."""
    with transaction.atomic():
        return _offer(version, actor=actor, reason=reason)


def _offer(version: ModelVersion, *, actor: User | None, reason: str) -> bool:
    changed = (
        ModelVersion.objects.filter(pk=version.pk)
        .exclude(status=Status.PUBLISHED)
        .update(status=Status.PUBLISHED, published_at=timezone.now())
    )
    if not changed:
        return False
    version.refresh_from_db(fields=["status", "published_at"])
    _choose_current(version.model)
    _audit(version, "version.published", actor, reason)
    return True


def withdraw(version: ModelVersion, *, actor: User | None, reason: str = "") -> bool:
    """Stop offering a version; False if it is not offered."""
    with transaction.atomic():
        changed = ModelVersion.objects.filter(pk=version.pk, status=Status.PUBLISHED).update(
            status=Status.WITHDRAWN
        )
        if not changed:
            return False
        version.refresh_from_db(fields=["status"])
        _choose_current(version.model)
        _audit(version, "version.withdrawn", actor, reason)
    return True


def pin(
    model: MLModel,
    version: ModelVersion | None,
    *,
    actor: User | None,
    reason: str = "",
    via: str = "",
) -> bool:
    """Choose what a name without a number means; None: the newest version on offer, always.

    Returns:
        Whether anything changed.
    """
    with transaction.atomic():
        row = MLModel.objects.select_for_update().get(pk=model.pk)
        if row.pinned_version_id == (version and version.pk):
            return False
        MLModel.objects.filter(pk=model.pk).update(pinned_version=version)
        model.pinned_version = version
        _choose_current(model)
        audit.record(
            actor,
            "model.pinned" if version else "model.unpinned",
            model,
            organization=model.owner,
            reason=reason,
            details={"version": version.number if version else None},
            via=via,
        )
    return True


def _choose_current(model: MLModel) -> None:
    """What a name without a number means: the pinned version, or the newest on offer."""
    on_offer = model.versions.filter(status=Status.PUBLISHED)
    pinned = MLModel.objects.values_list("pinned_version", flat=True).get(pk=model.pk)
    model.current_version = on_offer.filter(pk=pinned).first() or on_offer.first()
    MLModel.objects.filter(pk=model.pk).update(current_version=model.current_version)


def _audit(version: ModelVersion, action: str, actor: User | None, reason: str) -> None:
    audit.record(actor, action, version, organization=version.model.owner, reason=reason)
