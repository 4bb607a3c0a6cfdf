"""The recipes for text: what they learn from, and that what they export is what they made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.runtime.sessions import open_session
from training.recipes import embedder_run, execute, text_data, text_run
from training.recipes.catalogue import DOCS, NONE, RECIPES, VOCABULARY
from training.recipes.data import DataSet, Part
from training.recipes.execute import RESULT, Plan
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.measuring import ParityError
from training.recipes.shipped import CorruptFileError

pytestmark = pytest.mark.once


def run(name: str, folder: Path, choices: Hyperparameters | None = None, **fields: Any) -> Any:
    recipe = RECIPES[name]
    plan = Plan(
        name, recipe.data[0], choices or recipe.defaults(recipe.data[0]), [folder], **fields
    )
    return execute.execute(plan, lambda event: None, lambda: "", lambda runtime, path: dict)


def test_documents_are_prose_and_no_part_has_a_line_of_another() -> None:
    lines = text_data.paragraphs()
    data = text_data.load()

    assert sum(map(len, lines)) > 50_000
    assert not any("```" in line or line.startswith("|") for line in lines)
    assert data.name == DOCS
    assert data.training.x.shape[1] == text_data.WINDOW
    assert (data.training.x[:, 1:] == data.training.y[:, :-1]).all()
    rows = {row.tobytes() for row in data.training.x}
    assert rows.isdisjoint(row.tobytes() for row in data.held_out.x)


def test_a_character_has_one_number_and_an_unknown_one_has_0() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert text_data.encode("a\u4e2d").tolist() == [VOCABULARY.index("a"), 0]


def test_a_trained_text_model_is_exported_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = text_data.load()

    def few(part: Part) -> Part:
        return Part(part.x[:32], part.y[:32])

    small = DataSet(DOCS, few(whole.training), few(whole.validation), few(whole.held_out))
    monkeypatch.setattr(text_data, "load", lambda: small)

    result = run("docs-gru", tmp_path, Hyperparameters("adam", "0.003", 32, 1))

    assert float(result["measurements"]["parity"]["onnx"]) < 1e-4
    assert float(result["metrics"]["bits_per_character"]) < np.log2(len(VOCABULARY)) + 0.1
    assert result["training"]["epochs"] == 1
    assert (tmp_path / RESULT / result["files"]["keras"]).is_file()


def test_the_file_that_comes_with_us_writes_words_of_the_documents(tmp_path: Path) -> None:
    result = run("docs-gru", tmp_path, may_ship=True)
    session: Any = open_session("onnx", tmp_path / RESULT / "model.onnx", kind="prompt")

    scores, state = session.read([text_data.encode("What a run cost")], session.fresh(1))
    written = ""
    for _ in range(30):
        best = int(scores[0].argmax())
        written += VOCABULARY[best]
        scores, state = session.read([np.array([best], np.int32)], state)

    assert written.startswith("s")
    known = set(" ".join(text_data.paragraphs()).split())
    assert any(len(word) > 3 and word in known for word in written.split()[1:-1])
    assert result["training"]["shipped"] is True
    assert result["measurements"]["onnx"]["1"]["p50_us"] > 0
    assert float(result["metrics"]["bits_per_character"]) < 2.5


def test_a_file_that_is_not_the_recorded_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((text_run.FOLDER / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    model = (text_run.FOLDER / "docs-gru.onnx").read_bytes()
    (tmp_path / "docs-gru.onnx").write_bytes(model)
    monkeypatch.setattr(text_run, "FOLDER", tmp_path)

    with pytest.raises(CorruptFileError):
        run("docs-gru", tmp_path / "job", may_ship=True)


def test_the_embedder_gives_the_similarities_that_its_authors_publish(tmp_path: Path) -> None:
    """Source: the first example of the documents of sentence-transformers."""
    result = run("all-minilm-l6-v2", tmp_path)
    folder = tmp_path / RESULT
    session = open_session("onnx", folder / "model.onnx", kind="text")
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = np.zeros((3, 256), np.int32)
    for row, text in enumerate(embedder_run.SENTENCES):
        reader.no_truncation()
        reader.no_padding()
        numbers = reader.encode(text).ids
        tokens[row, : len(numbers)] = numbers
    vectors = session.run({"text": tokens})["embedding"]

    published = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    assert np.abs(vectors @ vectors.T - published).max() < 1e-4
    assert result["parameters"] == pytest.approx(22_700_000, rel=0.01)
    assert float(result["measurements"]["parity"]["onnx"]) < 1e-5
    # A row alone, without padding, is the row among others.
    alone = session.run({"text": tokens[1:2]})["embedding"]
    assert np.abs(alone - vectors[1:2]).max() < 1e-5


def test_a_graph_that_differs_from_the_weights_is_not_published(tmp_path: Path) -> None:
    source = embedder_run.weights_folder()
    from training.recipes import embedder_graph

    weights = embedder_graph.read_safetensors(source / "model.safetensors")

    with pytest.raises(ParityError):
        embedder_run.compare(
            lambda batch: np.zeros((len(batch), 384), np.float32),
            weights,
            source / "tokenizer.json",
        )
    assert RECIPES["all-minilm-l6-v2"].data == (NONE,)
