"""Writes what a measurement needs into a new database; prints [models, key] as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.db import transaction  # noqa: E402

from accounts import keys, organizations  # noqa: E402
from accounts.models import Organization  # noqa: E402
from benchmarks import tiny  # noqa: E402
from billing import budgets, credit  # noqa: E402
from billing.money import NANOS  # noqa: E402
from catalog import artifacts, prices  # noqa: E402
from catalog.models import Artifact, MLModel, ModelVersion  # noqa: E402
from training.recipes import RECIPES  # noqa: E402

ENOUGH = 1_000_000 * NANOS


def main(onnx_file: str, suffix: str, number: int) -> None:
    """Make published models, and an organization with two budgets that never run out."""
    publisher = organizations.create(f"publisher-{suffix}", "Publisher")
    tenant = organizations.create(f"tenant-{suffix}", "Tenant")
    credit.grant(tenant, ENOUGH, external_ref=f"bench:{suffix}", reason="benchmark")
    budgets.set_limit(tenant, "month", ENOUGH)
    with transaction.atomic():
        paths = [make_model(publisher, place, onnx_file) for place in range(number)]
    _, secret = keys.issue(tenant, "benchmark")
    print(json.dumps([paths, secret]))


def make_model(publisher: Organization, place: int, onnx_file: str) -> str:
    """Publish one model; all but the first have weights that no other has."""
    model = MLModel.objects.create(
        owner=publisher,
        name="cnn" if place == 0 else f"model-{place}",
        title_en="CNN",
        task="image-classification",
        framework="tensorflow",
        is_public=True,
    )
    version = ModelVersion.objects.create(
        model=model, number=1, status="published", signature=RECIPES["mnist-cnn"].signature
    )
    path = settings.ARTIFACTS / str(model.pk) / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    if place == 0:
        shutil.copy(onnx_file, path)
    else:
        tiny.write(path, seed=place)
    Artifact.objects.create(
        version=version,
        kind="onnx",
        path=str(path.relative_to(settings.ARTIFACTS)),
        sha256=artifacts.sha256(path),
        size_bytes=path.stat().st_size,
    )
    MLModel.objects.filter(pk=model.pk).update(current_version=version)
    prices.add(model=model, components={"row": (20_000, 1)})
    return model.path


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
