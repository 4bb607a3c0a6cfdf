"""A sentence embedder that takes no time: a real tokenizer, and a graph of two nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings

from accounts.models import Organization
from catalog import artifacts, prices
from catalog.models import Artifact, MLModel, ModelVersion
from tests import factories

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "morning", "night")
WIDTH, LONGEST = 8, 16
TOKEN_NANOS = 7


def make_embedder(owner: Organization | None = None, *, name: str = "") -> ModelVersion:
    """Make a published embedder with a price per token; it sums one vector per word."""
    version = factories.make_version(
        owner=owner,
        name=name,
        signature={
            "inputs": [{"name": "text", "datatype": "int32", "shape": [LONGEST], "kind": "text"}],
            "outputs": [{"name": "embedding", "datatype": "float32", "shape": [WIDTH]}],
        },
    )
    version.artifacts.all().delete()
    folder = Path(settings.ARTIFACTS) / str(version.model_id) / "1"
    _write_graph(folder / "embedder.onnx")
    _write_tokenizer(folder / "tokenizer.json")
    for kind, name in (("onnx", "embedder.onnx"), ("tokenizer", "tokenizer.json")):
        Artifact.objects.create(
            version=version,
            kind=kind,
            path=str((folder / name).relative_to(settings.ARTIFACTS)),
            sha256=artifacts.sha256(folder / name),
            size_bytes=(folder / name).stat().st_size,
        )
    MLModel.objects.filter(pk=version.model_id).update(task="sentence-embedding")
    prices.add(model=version.model, components={"input_token": (TOKEN_NANOS, 1)})
    return version


def vectors() -> Any:
    """Return the vector of each word; padding counts nothing."""
    numbers = np.random.default_rng(5).normal(0, 1, (len(WORDS), WIDTH)).astype(np.float32)
    numbers[0] = 0
    return numbers


def _write_graph(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["words", "text"], ["each"]),
            helper.make_node("ReduceSum", ["each", "axis"], ["embedding"], keepdims=0),
        ],
        "embedder",
        [helper.make_tensor_value_info("text", TensorProto.INT32, ["rows", "time"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", WIDTH])],
        [
            numpy_helper.from_array(vectors(), "words"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    path.write_bytes(made.SerializeToString())


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(
        WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))
