"""The recipes as data: what a page can show without loading a framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from training.recipes.hyperparameters import Hyperparameters

DIGITS, MNIST, LINE, DOCS, NONE = "digits", "mnist", "line", "docs", "none"
TEXT, EMBEDDING = "text-generation", "sentence-embedding"
# Rows a training reads in one epoch.
TRAINING_ROWS = {DIGITS: 1258, MNIST: 54_000, LINE: 800, DOCS: 1195, NONE: 0}
LABELS = [str(digit) for digit in range(10)]
IMAGE_SIGNATURE: dict[str, Any] = {
    "inputs": [
        {
            "name": "image",
            "datatype": "float32",
            "shape": [28, 28],
            "kind": "image",
            "low": 0,
            "high": 1,
        }
    ],
    "outputs": [{"name": "probabilities", "datatype": "float32", "shape": [10], "labels": LABELS}],
}
NUMBER_SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
    "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
}
# Number 0 stands for every character that is not listed.
UNKNOWN = "\ufffd"
VOCABULARY = UNKNOWN + "\n" + "".join(map(chr, range(32, 127))) + "–—…‘’“”·×→≤≥"
_CHARACTERS = {"datatype": "int32", "shape": [1], "kind": "prompt"}
TEXT_SIGNATURE: dict[str, Any] = {
    "inputs": [_CHARACTERS | {"name": "prompt"}],
    "outputs": [_CHARACTERS | {"name": "completion"}],
    "vocabulary": VOCABULARY,
    "context": 4096,
}
EMBEDDING_SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "text", "datatype": "int32", "shape": [256], "kind": "text"}],
    "outputs": [{"name": "embedding", "datatype": "float32", "shape": [384]}],
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured time of a recipe: start, export and checks, then per row and per step."""

    start_ms: int
    row_us: int
    step_us: int

    def milliseconds(self, rows: int, hyperparameters: Hyperparameters) -> int:
        """Return the expected time of a whole run."""
        steps = -(-rows // hyperparameters.batch_size)
        epoch_us = rows * self.row_us + steps * self.step_us
        return self.start_ms + hyperparameters.epochs * epoch_us // 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to make a model."""

    name: str
    task: str
    framework: str
    title_en: str
    title_zh: str
    architecture_en: str
    architecture_zh: str
    cost: Cost
    optimizer: str = "adam"
    learning_rate: str = "0.001"
    batch_size: int = 32
    # Data sets it can be trained on, with the epochs that suit each; the first is the default.
    epochs: dict[str, int] = field(default_factory=lambda: {DIGITS: 60, MNIST: 3})
    signature: dict[str, Any] = field(default_factory=lambda: IMAGE_SIGNATURE)
    price_nanos: int = 20_000
    # Dimension → (nanos, for how many units), where a price per row would not fit.
    prices: dict[str, tuple[int, int]] = field(default_factory=dict)
    # False: the model was trained elsewhere, and is only brought into our form here.
    is_trained: bool = True
    version: int = 1

    @property
    def data(self) -> tuple[str, ...]:
        """Data sets this recipe can be trained on."""
        return tuple(self.epochs)

    @property
    def is_classifier(self) -> bool:
        """Whether the output is one probability per class."""
        return "labels" in self.signature["outputs"][0]

    def defaults(self, data: str) -> Hyperparameters:
        """Return the choices that give a good model on this data."""
        return Hyperparameters(
            self.optimizer, self.learning_rate, self.batch_size, self.epochs[data]
        )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in [
        Recipe(
            name="mnist-mlp",
            task="image-classification",
            framework="tensorflow",
            title_en="Handwritten digits, MLP",
            title_zh="手写数字识别 MLP",
            architecture_en="Flatten → Dense 256 → Dense 128 → Dense 10 softmax",
            architecture_zh="Flatten → Dense 256 → Dense 128 → Dense 10 softmax（多层感知机）",
            cost=Cost(start_ms=9000, row_us=60, step_us=1500),
        ),
        Recipe(
            name="mnist-cnn",
            task="image-classification",
            framework="tensorflow",
            title_en="Handwritten digits, CNN",
            title_zh="手写数字识别 CNN",
            architecture_en="Conv 32 → pool → Conv 64 → pool → Dense 64 → Dense 10 softmax",
            architecture_zh=(
                "Conv 32 → 池化 → Conv 64 → 池化 → Dense 64 → Dense 10 softmax（卷积网络）"
            ),
            cost=Cost(start_ms=9000, row_us=120, step_us=2500),
            epochs={DIGITS: 30, MNIST: 1},
        ),
        Recipe(
            name="mnist-cnn-deep",
            task="image-classification",
            framework="tensorflow",
            title_en="Handwritten digits, deep CNN",
            title_zh="手写数字识别 深层 CNN",
            architecture_en=(
                "Conv 32 → pool → Conv 64 → pool → Conv 64 → Dense 64 → Dense 10 softmax"
            ),
            architecture_zh=(
                "Conv 32 → 池化 → Conv 64 → 池化 → Conv 64 → Dense 64 → Dense 10 softmax"
                "（三层卷积网络）"
            ),
            cost=Cost(start_ms=9000, row_us=150, step_us=2500),
            epochs={DIGITS: 30, MNIST: 1},
        ),
        Recipe(
            name="mnist-dropout",
            task="image-classification",
            framework="tensorflow",
            title_en="Handwritten digits, MLP with dropout",
            title_zh="手写数字识别 Dropout MLP",
            architecture_en="Flatten → Dense 128 → Dropout 0.2 → Dense 10 softmax",
            architecture_zh="Flatten → Dense 128 → Dropout 0.2 → Dense 10 softmax（带随机失活）",
            cost=Cost(start_ms=9000, row_us=60, step_us=1500),
        ),
        Recipe(
            name="digits-lstm",
            task="sequence-classification",
            framework="pytorch",
            title_en="Handwritten digits, LSTM over pixels",
            title_zh="手写数字识别 LSTM（逐像素）",
            architecture_en=(
                "Average pool 28×28 → 7×7, then LSTM (input 1, hidden 50, 1 layer) over the 49 "
                "values in reading order → Linear 10 softmax"
            ),
            architecture_zh=(
                "平均池化 28×28 → 7×7，按阅读顺序把 49 个值送入 LSTM"
                "（输入 1，隐藏 50，1 层）→ Linear 10 softmax"
            ),
            cost=Cost(start_ms=6000, row_us=120, step_us=4000),
            learning_rate="0.01",
            batch_size=64,
            epochs={DIGITS: 200, MNIST: 6},
            price_nanos=30_000,
        ),
        Recipe(
            name="linear-regression",
            task="regression",
            framework="tensorflow",
            title_en="Linear regression",
            title_zh="线性回归",
            architecture_en="y = w·x + b, fitted by gradient descent",
            architecture_zh="y = w·x + b，用梯度下降拟合",
            cost=Cost(start_ms=8000, row_us=5, step_us=600),
            optimizer="sgd",
            learning_rate="0.01",
            epochs={LINE: 12},
            signature=NUMBER_SIGNATURE,
            price_nanos=1_000,
        ),
        Recipe(
            name="docs-gru",
            task=TEXT,
            framework="tensorflow",
            title_en="Text in the manner of Mercato's documents",
            title_zh="Mercato 文档风格的文本生成",
            architecture_en="Characters → embedding 48 → GRU 256 → Dense 109 softmax",
            architecture_zh="字符 → 嵌入 48 → GRU 256 → Dense 109 softmax（字符级循环网络）",
            cost=Cost(start_ms=15_000, row_us=4000, step_us=20_000),
            learning_rate="0.003",
            epochs={DOCS: 45},
            signature=TEXT_SIGNATURE,
            price_nanos=10_000,
            prices={
                "input_token": (20_000_000, 1_000_000),
                "output_token": (100_000_000, 1_000_000),
            },
        ),
        Recipe(
            name="all-minilm-l6-v2",
            task=EMBEDDING,
            framework="pytorch",
            title_en="Sentence embeddings, MiniLM",
            title_zh="句向量 MiniLM",
            architecture_en=(
                "BERT encoder, 6 layers, 12 heads, width 384 → mean over tokens → length 1"
            ),
            architecture_zh="BERT 编码器，6 层，12 头，宽度 384 → 对词元取平均 → 归一化",
            cost=Cost(start_ms=20_000, row_us=0, step_us=0),
            epochs={NONE: 1},
            signature=EMBEDDING_SIGNATURE,
            price_nanos=5_000,
            prices={"input_token": (20_000_000, 1_000_000)},
            is_trained=False,
        ),
    ]
}
