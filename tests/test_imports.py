"""The web must never load TensorFlow: seconds and gigabytes; nor the SDK of Stripe: seldom used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "torch", "onnxruntime", "keras", "sklearn", "stripe")


@pytest.mark.once
def test_the_site_and_its_tasks_do_not_load_the_frameworks() -> None:
    program = (
        "import sys; import maas_site.celery, maas_site.asgi; from django.urls import get_resolver;"
        "get_resolver().url_patterns; import training.tasks, inference.tasks, billing.tasks;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert found.stdout.decode().strip() == "[]"
