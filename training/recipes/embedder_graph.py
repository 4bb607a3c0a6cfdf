"""A sentence embedder as an ONNX graph, from weights in the safetensors format; without PyTorch.

    text: tokens (rows, time), padded with 0 → embedding (rows, width), of length 1

A BERT encoder, the mean of its vectors over the tokens that count, and normalisation. Attention and
the residual sums are ONNX Runtime's own operators: one node each, where the standard ones need ten.

Source:
    Devlin et al. 2019, BERT; Reimers and Gurevych 2019, Sentence-BERT.
    ONNX Runtime, ContribOperators: Attention, SkipLayerNormalization, BiasGelu.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.data import Floats

HEADS, LAYERS, EPSILON = 12, 6, 1e-12
_OPSET, _IR = 17, 8
_MICROSOFT = "com.microsoft"


def read_safetensors(path: Path) -> dict[str, Floats]:
    """Read the float32 tensors of a file: a JSON header with offsets, then the numbers.

    Raises:
        ValueError: The file is cut short, or is another format.
    """
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    found: dict[str, Floats] = {}
    for name, item in header.items():
        if name != "__metadata__" and item["dtype"] == "F32":
            begin, end = (8 + size + offset for offset in item["data_offsets"])
            found[name] = np.frombuffer(content[begin:end], "<f4").reshape(item["shape"])
    return found


@dataclass
class _Graph:
    """Nodes and constants, as they are added."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Add a constant; returns its name."""
        self.constants[name] = np.ascontiguousarray(array)
        return name


def write(weights: Mapping[str, Floats], path: Path) -> None:
    """Write the graph of the weights, by their names in BERT's files."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
    hidden = _embedded(graph, weights)
    for number in range(LAYERS):
        hidden = _layer(graph, weights, number, hidden)
    _pool(graph, hidden)
    width = weights["embeddings.LayerNorm.bias"].shape[0]
    rows = helper.make_tensor_value_info("text", TensorProto.INT32, ["rows", "time"])
    vectors = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", width])
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "sentence_embedder", [rows], [vectors], constants),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)],
        ir_version=_IR,
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _embedded(graph: _Graph, weights: Mapping[str, Floats]) -> str:
    """Sum the vectors of tokens and places; the mask says which tokens count."""
    graph.constant("padding", np.array(0, np.int32))
    graph.constant("zero", np.array([0], np.int64))
    graph.constant("one", np.array([1], np.int64))
    graph.add("Equal", ["text", "padding"], "is_padding")
    graph.add("Not", ["is_padding"], "counts")
    graph.add("Cast", ["counts"], "mask", to=6)
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    graph.add("Gather", [words, "text"], "word")
    # A sentence alone: all tokens are of the first type.
    places = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    graph.constant("places", places)
    graph.add("Shape", ["text"], "time", start=1, end=2)
    graph.add("Slice", ["places", "zero", "time", "zero"], "place")
    graph.add("Add", ["word", "place"], "sum")
    scale = graph.constant("first.scale", weights["embeddings.LayerNorm.weight"])
    shift = graph.constant("first.shift", weights["embeddings.LayerNorm.bias"])
    return graph.add("LayerNormalization", ["sum", scale, shift], "first", axis=-1, epsilon=EPSILON)


def _layer(graph: _Graph, weights: Mapping[str, Floats], number: int, hidden: str) -> str:
    prefix, own = f"encoder.layer.{number}.", f"layer{number}."
    names = [f"{prefix}attention.self.{one}" for one in ("query", "key", "value")]
    kernel = graph.constant(
        f"{own}qkv", np.concatenate([weights[f"{name}.weight"].T for name in names], axis=1)
    )
    bias = graph.constant(
        f"{own}qkv_bias", np.concatenate([weights[f"{name}.bias"] for name in names])
    )
    attended = graph.add(
        "Attention",
        [hidden, kernel, bias, "mask"],
        f"{own}attended",
        domain=_MICROSOFT,
        num_heads=HEADS,
    )
    mixed = _dense(graph, weights, f"{prefix}attention.output.dense", f"{own}mixed", attended)
    after = _residual(graph, weights, f"{prefix}attention.output", f"{own}after", [mixed, hidden])
    wide = _dense(graph, weights, f"{prefix}intermediate.dense", f"{own}wide", after)
    bent = graph.add(
        "BiasGelu",
        [wide, graph.constant(f"{own}wide_bias", weights[f"{prefix}intermediate.dense.bias"])],
        f"{own}bent",
        domain=_MICROSOFT,
    )
    narrow = _dense(graph, weights, f"{prefix}output.dense", f"{own}narrow", bent)
    return _residual(graph, weights, f"{prefix}output", f"{own}out", [narrow, after])


def _dense(graph: _Graph, weights: Mapping[str, Floats], name: str, output: str, given: str) -> str:
    """Multiply; the bias is added by the operator that follows."""
    kernel = graph.constant(f"{output}.kernel", weights[f"{name}.weight"].T)
    return graph.add("MatMul", [given, kernel], output)


def _residual(
    graph: _Graph, weights: Mapping[str, Floats], name: str, output: str, given: list[str]
) -> str:
    """Add two branches and a bias, and normalise."""
    scale = graph.constant(f"{output}.scale", weights[f"{name}.LayerNorm.weight"])
    shift = graph.constant(f"{output}.shift", weights[f"{name}.LayerNorm.bias"])
    bias = graph.constant(f"{output}.bias", weights[f"{name}.dense.bias"])
    return graph.add(
        "SkipLayerNormalization",
        [*given, scale, shift, bias],
        output,
        domain=_MICROSOFT,
        epsilon=EPSILON,
    )


def _pool(graph: _Graph, hidden: str) -> None:
    """Take the mean over the tokens that count, and bring it to length 1."""
    graph.constant("last", np.array([2], np.int64))
    graph.constant("least", np.array(1e-9, np.float32))
    graph.add("Cast", ["mask"], "weight", to=1)
    graph.add("Unsqueeze", ["weight", "last"], "weights")
    graph.add("Mul", [hidden, "weights"], "weighted")
    graph.add("ReduceSum", ["weighted", "one"], "total", keepdims=0)
    graph.add("ReduceSum", ["weights", "one"], "count", keepdims=0)
    graph.add("Max", ["count", "least"], "divisor")
    graph.add("Div", ["total", "divisor"], "mean")
    graph.add("LpNormalization", ["mean"], "embedding", axis=1, p=2)
