"""The data sets and the small changes made to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.recipes import RECIPES, data, evaluation, shipped
from training.recipes.augmentation import varied
from training.recipes.catalogue import DIGITS, LINE, MNIST, TRAINING_ROWS
from training.recipes.data import DataUnavailableError


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.load(DIGITS, [])


def test_digits_are_split_the_same_way_every_time(digits: data.DataSet) -> None:
    again = data.load(DIGITS, [])

    np.testing.assert_array_equal(digits.held_out.x, again.held_out.x)
    assert (len(digits.training), len(digits.validation), len(digits.held_out)) == (1258, 179, 360)


def test_no_row_is_in_two_parts(digits: data.DataSet) -> None:
    parts = [
        {row.tobytes() for row in part.x}
        for part in (digits.training, digits.validation, digits.held_out)
    ]

    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_digits_look_like_mnist(digits: data.DataSet) -> None:
    x = digits.training.x

    assert x.shape[1:] == (28, 28)
    assert x.dtype == np.float32
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    middle = (x * np.arange(28)).sum((1, 2)) / x.sum((1, 2))
    assert np.abs(middle - 13.5).max() < 0.6


def test_every_class_is_held_out(digits: data.DataSet) -> None:
    assert np.bincount(digits.held_out.y.astype(np.int64)).min() >= 30


def test_the_line_is_what_it_says() -> None:
    rows = data.load(LINE, [])

    slope, offset = np.polyfit(rows.training.x[:, 0], np.asarray(rows.training.y)[:, 0], 1)
    assert abs(slope - 3) < 0.02
    assert abs(offset - 2) < 0.05


def test_mnist_is_read_from_disk_and_never_fetched(tmp_path: Path) -> None:
    assert not data.available(MNIST, [tmp_path])
    with pytest.raises(DataUnavailableError):
        data.load(MNIST, [tmp_path])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (50, 28, 28), np.uint8)
    labels = np.arange(50, dtype=np.uint8) % 10
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    rows = data.load(MNIST, [tmp_path])

    assert (len(rows.training), len(rows.validation), len(rows.held_out)) == (45, 5, 50)


def test_the_estimates_know_the_number_of_rows(digits: data.DataSet) -> None:
    assert len(digits.training) == TRAINING_ROWS[DIGITS]
    assert len(data.load(LINE, []).training) == TRAINING_ROWS[LINE]


def test_variation_depends_on_the_seed_alone(digits: data.DataSet) -> None:
    x = digits.training.x[:20]

    first = varied(x, np.random.default_rng(3))

    np.testing.assert_array_equal(first, varied(x, np.random.default_rng(3)))
    assert np.abs(first - varied(x, np.random.default_rng(4))).max() > 0.1
    assert first.shape == x.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_the_shipped_lstm_is_what_its_record_says(digits: data.DataSet) -> None:
    learner = shipped.ShippedLearner()

    metrics = evaluation.held_out_metrics(learner, digits.held_out, is_classifier=True)

    assert float(metrics["accuracy"]) >= 0.95
    assert abs(float(metrics["accuracy"]) - float(learner._record["metrics"]["accuracy"])) < 0.01
    assert learner.record()["hyperparameters"] == RECIPES["digits-lstm"].defaults(DIGITS).as_json()
    assert learner._record["recipe_version"] == RECIPES["digits-lstm"].version


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_the_shipped_lstm_takes_any_batch(digits: data.DataSet, rows: int) -> None:
    learner = shipped.ShippedLearner()
    x = digits.held_out.x[:rows]

    output = learner.predict(x)

    assert output.shape == (rows, 10)
    np.testing.assert_allclose(output.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(output[0], learner.predict(x[:1])[0], atol=1e-5)
