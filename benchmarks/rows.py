"""Writes what a measurement needs into a new database; prints [model, key] as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")
django.setup()

from django.conf import settings  # noqa: E402

from accounts import keys, organizations  # noqa: E402
from billing import budgets, credit  # noqa: E402
from billing.money import NANOS  # noqa: E402
from catalog import prices  # noqa: E402
from catalog.models import Artifact, MLModel, ModelVersion  # noqa: E402
from training.recipes import RECIPES  # noqa: E402

ENOUGH = 1_000_000 * NANOS


def main(onnx_file: str, suffix: str) -> None:
    """Make a published model, and an organization with two budgets that never run out."""
    publisher = organizations.create(f"publisher-{suffix}", "Publisher")
    tenant = organizations.create(f"tenant-{suffix}", "Tenant")
    credit.grant(tenant, ENOUGH, external_ref=f"bench:{suffix}", reason="benchmark")
    budgets.set_limit(tenant, "month", ENOUGH)
    model = MLModel.objects.create(
        owner=publisher,
        name="cnn",
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
    shutil.copy(onnx_file, path)
    Artifact.objects.create(
        version=version,
        kind="onnx",
        path=str(path.relative_to(settings.ARTIFACTS)),
        sha256="0" * 64,
        size_bytes=path.stat().st_size,
    )
    MLModel.objects.filter(pk=model.pk).update(current_version=version)
    prices.add(model=model, components={"row": (20_000, 1)})
    _, secret = keys.issue(tenant, "benchmark")
    print(json.dumps([model.path, secret]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
