"""A recurrent text model as an ONNX graph with its state outside, so that a step is cheap.

    ids (batch, time), lengths (batch), state (batch, hidden) → logits (batch, characters), state

A prompt is one call, each character after it another of time 1. `lengths` says how many of the
characters of each row count, so prompts of different lengths share a call.

Source:
    ONNX operators, GRU with linear_before_reset = 1: what Keras calls reset_after.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.data import Floats

_OPSET, _IR = 17, 8


def write(weights: Mapping[str, Floats], path: Path) -> None:
    """Write the graph.

    Args:
        weights: `embedding` (characters, width), `kernel` (width, 3 hidden), `recurrent`
            (hidden, 3 hidden), `bias` (2, 3 hidden) with gates in the order update, reset, new;
            `out` (hidden, characters), `out_bias` (characters).
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    hidden, characters = weights["out"].shape
    constants = {
        "embedding": weights["embedding"],
        "w": weights["kernel"].T[np.newaxis],
        "r": weights["recurrent"].T[np.newaxis],
        "b": weights["bias"].reshape(1, -1),
        "out": weights["out"],
        "out_bias": weights["out_bias"],
        "first": np.array([0], np.int64),
    }

    def value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        _nodes(hidden),
        "gru_text",
        [
            value("ids", TensorProto.INT32, ["batch", "time"]),
            value("lengths", TensorProto.INT32, ["batch"]),
            value("state", TensorProto.FLOAT, ["batch", hidden]),
        ],
        [
            value("logits", TensorProto.FLOAT, ["batch", characters]),
            value("next_state", TensorProto.FLOAT, ["batch", hidden]),
        ],
        [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in constants.items()
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _nodes(hidden: int) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Gather", ["embedding", "ids"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node("Unsqueeze", ["state", "first"], ["before"]),
        helper.make_node(
            "GRU",
            ["by_time", "w", "r", "b", "lengths", "before"],
            ["", "after"],
            hidden_size=hidden,
            linear_before_reset=1,
        ),
        helper.make_node("Squeeze", ["after", "first"], ["next_state"]),
        helper.make_node("MatMul", ["next_state", "out"], ["scores"]),
        helper.make_node("Add", ["scores", "out_bias"], ["logits"]),
    ]
