"""Writes the sentence embedder into a new database; prints [[model], key] as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maas_site.settings")
django.setup()

from django.conf import settings  # noqa: E402

from accounts import keys, organizations  # noqa: E402
from billing import credit  # noqa: E402
from billing.money import NANOS  # noqa: E402
from catalog import artifacts, prices  # noqa: E402
from catalog.models import Artifact, MLModel, ModelVersion  # noqa: E402
from training.recipes import RECIPES  # noqa: E402


def main(onnx_file: str, suffix: str, models: str) -> None:
    """Publish the graph, and the tokenizer that lies beside it."""
    if models != "1":
        raise SystemExit("There is one embedder.")
    recipe = RECIPES["all-minilm-l6-v2"]
    publisher = organizations.create(f"publisher-{suffix}", "Publisher")
    tenant = organizations.create(f"tenant-{suffix}", "Tenant")
    credit.grant(tenant, 1_000_000 * NANOS, external_ref=f"bench:{suffix}", reason="benchmark")
    model = MLModel.objects.create(
        owner=publisher,
        name=recipe.name,
        title_en=recipe.title_en,
        task=recipe.task,
        framework=recipe.framework,
        is_public=True,
    )
    version = ModelVersion.objects.create(
        model=model, number=1, status="published", signature=recipe.signature
    )
    folder = settings.ARTIFACTS / str(model.pk) / "1"
    folder.mkdir(parents=True)
    for kind, source in (
        ("onnx", Path(onnx_file)),
        ("tokenizer", Path(onnx_file).with_name("tokenizer.json")),
    ):
        path = folder / source.name
        shutil.copyfile(source, path)
        Artifact.objects.create(
            version=version,
            kind=kind,
            path=str(path.relative_to(settings.ARTIFACTS)),
            sha256=artifacts.sha256(path),
            size_bytes=path.stat().st_size,
        )
    MLModel.objects.filter(pk=model.pk).update(current_version=version)
    prices.add(model=model, components=recipe.prices)
    _, secret = keys.issue(tenant, "benchmark")
    print(json.dumps([[model.path], secret]))


if __name__ == "__main__":
    main(*sys.argv[1:4])
