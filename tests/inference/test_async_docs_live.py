"""The examples of docs/predictions.md, as they are written there, against a running site."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import factories
from tests.live import ROOT, Site

EXAMPLES = re.findall(
    r"```\n(curl .*?)```", (ROOT / "docs/predictions.md").read_text(), flags=re.DOTALL
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the picture of the examples."""
    pixels = (np.array(factories.image(7)) * 255).astype(np.uint8)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    (tmp_path / "seven.png").write_bytes(picture.getvalue())
    return tmp_path


def test_the_examples_do_what_the_page_says(site: Site, folder: Path) -> None:
    owner = factories.make_organization(slug="mercato", credit_nanos=0)
    factories.make_version(owner=owner, name="mnist-cnn")
    _, secret = factories.make_key(factories.make_organization())
    later, wait, get, cancel, watch = EXAMPLES
    environment = os.environ | {"URL": site.url, "KEY": secret}

    def run(example: str) -> str:
        done = subprocess.run(
            ["bash", "-c", example.replace("curl ", "curl -sS --fail-with-body --max-time 60 ", 1)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    accepted = run(later)
    found = re.search(r'"id":"([^"]+)"', accepted)
    assert found is not None
    assert '"status":"queued"' in accepted
    environment["ID"] = found[1]
    assert '"status":"succeeded"' in run(wait)
    assert "event: end" in run(watch)
    assert '"status":"succeeded"' in run(get)
    assert '"status":"succeeded"' in run(cancel)
