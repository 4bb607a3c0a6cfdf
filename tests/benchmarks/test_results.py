"""The table of `make bench`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bodies, mercato, results
from benchmarks.__main__ import wanted
from benchmarks.bodies import random_image
from benchmarks.measuring import Line, image_body
from benchmarks.peers import PEERS
from benchmarks.results import Results
from inference.faces import infer_body
from inference.runtime import binary, tensors
from inference.runtime.signature import Signature
from training.recipes import RECIPES

pytestmark = pytest.mark.once


def line(server: str, settings: str, clients: int, speed: float, **others: int) -> Line:
    return Line(server, "1.0", settings, clients, speed, 2.0, 9.0, others)


@pytest.fixture
def found() -> Results:
    made = Results({"onnx": {"1": 1000.0, "64": 4000.0}}, body_bytes=5000)
    made.lines = [
        *(line("mosec", "×1", 1, 300), line("mosec", "×1", 64, 900)),
        *(line("mosec", "×2", 1, 200), line("mosec", "×2", 64, 1000)),
        *(line("Mercato, SQLite", "×1", 1, 100), line("Mercato, SQLite", "×1", 64, 2000)),
    ]
    return made


def test_the_better_settings_with_most_clients_count_and_the_fastest_server_is_first(
    found: Results,
) -> None:
    assert [(one[0].server, one[0].settings) for one in found.best()] == [
        ("Mercato, SQLite", "×1"),
        ("mosec", "×2"),
    ]


def test_the_table_names_every_measurement_and_what_could_not_be_measured(found: Results) -> None:
    found.failed["ray"] = "it did not start"

    page = found.markdown()

    assert "| mosec | 1.0 | ×1 | 64 | 900 | 2.0 | 9.0 | 22.5% | 0 |" in page
    assert "ray was not measured: it did not start" in page


def test_the_files_say_when_and_where(
    found: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")

    page = found.write()

    kept = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert kept["machine"] in page.read_text(encoding="utf-8")
    assert kept["at"].startswith(f"{found.at:%Y-%m-%d}")
    assert len(kept["lines"]) == 6


def test_only_what_is_named_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY", "mosec,mercato")
    assert wanted() == ["mosec", "mercato"]
    monkeypatch.setenv("ONLY", "nginx")
    with pytest.raises(SystemExit, match="not nginx"):
        wanted()


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gets_the_same_image_at_a_pinned_version(name: str) -> None:
    image = random_image()
    numbers = json.dumps(image)
    body = json.dumps(PEERS[name].body(image))

    assert numbers in body
    assert abs(len(body) - len(image_body("publisher/cnn"))) < 100
    assert "==" in PEERS[name].requirement


def test_forms_are_compared_with_json_of_as_many_images() -> None:
    lines = [
        line(f"{mercato.SQLITE}: {form}", f"{rows} images", 64, speed)
        for form, rows, speed in (
            (bodies.JSON, 2, 100),
            (bodies.NPY, 2, 150),
            (bodies.JSON, 16, 10),
            (bodies.TENSORS, 16, 30),
            (bodies.NPY, 4, 7),
        )
    ]

    assert list(mercato.against_json(lines)) == [
        (mercato.SQLITE, bodies.NPY, "2 images", 1.5),
        (mercato.SQLITE, bodies.TENSORS, "16 images", 3.0),
    ]


def test_every_form_sends_the_same_images() -> None:
    signature = Signature.from_json(RECIPES["mnist-cnn"].signature)
    images = [random_image()] * 3
    parts = {form: make("me/model", images) for form, make in bodies.FORMS.items()}

    decoded = [
        tensors.decode(json.loads(parts[bodies.JSON].data)["input"], signature),
        binary.decode_npy(parts[bodies.NPY].data, signature),
        infer_body.read(
            parts[bodies.TENSORS].data,
            parts[bodies.TENSORS].headers["Inference-Header-Content-Length"],
        )(signature),
    ]

    assert [one.rows for one in decoded] == [3, 3, 3]
    for one in decoded[1:]:
        np.testing.assert_array_equal(one.arrays["image"], decoded[0].arrays["image"])
