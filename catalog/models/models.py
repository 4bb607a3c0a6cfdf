"""Entries of the catalogue and their builds."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from accounts.models import Organization

NAME = RegexValidator(r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")


class Task(models.TextChoices):
    """What a model is for."""

    IMAGE_CLASSIFICATION = "image-classification"
    SEQUENCE_CLASSIFICATION = "sequence-classification"
    REGRESSION = "regression"
    TEXT_GENERATION = "text-generation"
    SENTENCE_EMBEDDING = "sentence-embedding"


# What a run reads is counted in tokens.
TEXT_TASKS = frozenset({Task.TEXT_GENERATION, Task.SENTENCE_EMBEDDING})


class Framework(models.TextChoices):
    """What a model was trained with."""

    TENSORFLOW = "tensorflow"
    PYTORCH = "pytorch"


class MLModelQuerySet(models.QuerySet["MLModel"]):
    """Sets of catalogue entries."""

    def published(self) -> MLModelQuerySet:
        """Return public models that have a published version."""
        return self.filter(is_public=True, current_version__isnull=False)

    def visible_to(self, organization: Organization | None) -> MLModelQuerySet:
        """Return what the catalogue shows to an organization: public models and its own."""
        if organization is None:
            return self.published()
        return self.filter(Q(is_public=True, current_version__isnull=False) | Q(owner=organization))


class MLModel(models.Model):
    """An entry of the catalogue: `owner/name`."""

    owner = models.ForeignKey(Organization, models.PROTECT, related_name="models")
    name = models.CharField(max_length=64, validators=[NAME])
    title_en = models.CharField(max_length=120)
    title_zh = models.CharField(max_length=120, blank=True)
    summary_en = models.CharField(max_length=300)
    summary_zh = models.CharField(max_length=300, blank=True)
    card_en = models.TextField(blank=True, help_text="Markdown.")
    card_zh = models.TextField(blank=True, help_text="Markdown.")
    task = models.CharField(max_length=32, choices=Task.choices)
    framework = models.CharField(max_length=16, choices=Framework.choices)
    is_public = models.BooleanField(default=False)
    current_version = models.ForeignKey(
        "catalog.ModelVersion", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # What the owner wants to be current, whatever is published later.
    pinned_version = models.ForeignKey(
        "catalog.ModelVersion", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # Lower-case words and Chinese bigrams, made by catalog.search.
    search_text = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MLModelQuerySet.as_manager()

    class Meta:
        ordering = ["owner__slug", "name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_model_per_name")]

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """The public id: `owner/name`."""
        return f"{self.owner.slug}/{self.name}"


class Measured(NamedTuple):
    """What was measured of a version on one runtime, when it was published.

    Attributes:
        p50_us: Median time of one row, in microseconds.
        rows_per_second: In batches of 64.
        difference: The largest from what the trained model answers, as a decimal number.
    """

    name: str
    serves: bool
    p50_us: int | None
    rows_per_second: int | None
    difference: str | None


class ModelVersion(models.Model):
    """A build of a model. What it computes never changes; its status may."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        WITHDRAWN = "withdrawn"

    class Runtime(models.TextChoices):
        ONNX = "onnx"
        TENSORFLOW = "tensorflow"

    model = models.ForeignKey(MLModel, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    runtime = models.CharField(max_length=16, choices=Runtime.choices, default=Runtime.ONNX)
    signature = models.JSONField(help_text="Inputs and outputs; see inference/runtime/signature.py")
    # Percent billed per way a run can end; see billing/outcomes.py.
    outcome_policy = models.JSONField(default=dict)
    parameters = models.PositiveBigIntegerField(default=0)
    # {"accuracy": "0.981", "loss": "0.07", "rows": 360, …}: held-out, numbers as strings.
    metrics = models.JSONField(default=dict)
    # {"recipe", "data", "seed", "hyperparameters": {…}, "seconds"}: how it was made.
    training = models.JSONField(default=dict)
    # {"onnx": {"1": {"p50_us": 90, "rows_per_second": 11000}, "64": …}, "tensorflow": …,
    # "parity": …}: runtime → rows in a batch → how fast on this site's machine.
    measurements = models.JSONField(default=dict)
    # [{"label": "7", "input": {…}}]: inputs a person can try at once.
    examples = models.JSONField(default=list)
    size_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="one_version_per_number")
        ]

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """The public id: `owner/name:number`."""
        return f"{self.model.path}:{self.number}"

    @property
    def runtimes(self) -> list[Measured]:
        """How fast each runtime was on this site's machine; the fastest that passes serves."""
        parity = self.measurements.get("parity", {})
        return [
            Measured(
                runtime,
                runtime == self.runtime,
                self.measurements[runtime].get("1", {}).get("p50_us"),
                self.measurements[runtime].get("64", {}).get("rows_per_second"),
                parity.get(runtime),
            )
            for runtime in ("onnx", "tensorflow")
            if runtime in self.measurements
        ]

    @property
    def latency_us(self) -> int | None:
        """Median time of one row on the runtime that serves it, in microseconds."""
        measured: dict[str, Any] = self.measurements.get(self.runtime, {}).get("1", {})
        return measured.get("p50_us")


class Artifact(models.Model):
    """A file or folder of a version, below the artifacts folder."""

    class Kind(models.TextChoices):
        ONNX = "onnx"
        SAVED_MODEL = "saved_model"
        KERAS = "keras"
        TORCH = "torch"
        TOKENIZER = "tokenizer"

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="artifacts")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    path = models.CharField(max_length=300, help_text="Relative to the artifacts folder.")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "kind"], name="one_artifact_per_kind")
        ]

    def __str__(self) -> str:
        return self.path
