"""With PyTorch installed the recipe is trained again and compared with the file that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.recipes import data
from training.recipes.catalogue import DIGITS
from training.recipes.make_shipped import make
from training.recipes.shipped import ShippedLearner

pytestmark = pytest.mark.once


def test_the_recipe_makes_a_model_as_good_as_the_shipped_one(tmp_path: Path) -> None:
    import onnxruntime

    made = make(tmp_path)
    shipped = ShippedLearner()
    held_out = data.load(DIGITS, []).held_out

    assert made["parameters"] == shipped.parameters()
    assert abs(float(made["metrics"]["accuracy"]) - shipped.score(held_out).accuracy) < 0.03  # type: ignore[operator]
    session = onnxruntime.InferenceSession(
        str(tmp_path / "result" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    for rows in (1, 3, 64):
        output = session.run(["probabilities"], {"image": held_out.x[:rows]})[0]
        agreed = output.argmax(1) == shipped.predict(held_out.x[:rows]).argmax(1)
        assert output.shape == (rows, 10)
        assert np.mean(agreed) >= 0.9
