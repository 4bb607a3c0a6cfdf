"""The recipe made with PyTorch; the exported model is served without it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.catalogue import Recipe
from training.recipes.checkpoints import Array
from training.recipes.data import Floats, Part
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import DivergedError, Score

_OPSET = 17
_HIDDEN = 50
_POOL = 4
_CLIP = 1.0


def installed() -> bool:
    """Whether PyTorch is on this machine, without loading it."""
    return importlib.util.find_spec("torch") is not None


def _network() -> Any:
    import torch

    class PixelLSTM(torch.nn.Module):  # type: ignore[misc]  # torch is optional
        """Reads the pooled pixels one by one, answers after the last."""

        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.AvgPool2d(_POOL)
            self.lstm = torch.nn.LSTM(1, _HIDDEN, num_layers=1, batch_first=True)
            self.out = torch.nn.Linear(_HIDDEN, 10)

        def forward(self, image: Any) -> Any:
            sequence = self.pool(image.unsqueeze(1)).flatten(1).unsqueeze(2)
            states, _ = self.lstm(sequence)
            return self.out(states[:, -1, :])

    return PixelLSTM()


class TorchLearner:
    """The LSTM with its optimizer."""

    def __init__(self, recipe: Recipe, hyperparameters: Hyperparameters) -> None:
        import torch

        torch.manual_seed(hyperparameters.seed)
        self._names = (
            recipe.signature["inputs"][0]["name"],
            recipe.signature["outputs"][0]["name"],
        )
        self._batch = hyperparameters.batch_size
        self._network = _network()
        kind: Any = {
            "adam": torch.optim.Adam,
            "sgd": torch.optim.SGD,
            "rmsprop": torch.optim.RMSprop,
        }[hyperparameters.optimizer]
        self._optimizer = kind(self._network.parameters(), lr=float(hyperparameters.learning_rate))

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Learn from every row once."""
        import torch

        self._network.train()
        total, right = 0.0, 0
        for start in range(0, len(part), self._batch):
            x = torch.from_numpy(part.x[start : start + self._batch])
            y = torch.from_numpy(np.asarray(part.y[start : start + self._batch], np.int64))
            logits = self._network(x)
            loss = torch.nn.functional.cross_entropy(logits, y)
            if not math.isfinite(loss.item()):
                raise DivergedError("The loss is no longer a finite number.")
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP)
            self._optimizer.step()
            total += loss.item() * len(x)
            right += int((logits.argmax(1) == y).sum())
            after_batch(start + len(x))
        return Score(total / len(part), right / len(part))

    def score(self, part: Part) -> Score:
        """Return loss and accuracy without learning."""
        output = self.predict(part.x)
        y = np.asarray(part.y, np.int64)
        loss = float(-np.log(np.maximum(output[np.arange(len(y)), y], 1e-12)).mean())
        if not math.isfinite(loss):
            raise DivergedError("The loss is no longer a finite number.")
        return Score(loss, float((output.argmax(1) == y).mean()))

    def predict(self, x: Floats) -> Floats:
        """Return the probabilities for a batch."""
        import torch

        self._network.eval()
        with torch.no_grad():
            output: Floats = torch.softmax(self._network(torch.from_numpy(x)), 1).numpy()
        return output

    def arrays(self) -> list[Array]:
        """Return weights and optimizer, in a fixed order."""
        weights = [value.numpy() for value in self._network.state_dict().values()]
        state = self._optimizer.state_dict()["state"]
        # Each parameter's step count and moments, by number and then by name.
        moments = [
            np.asarray(value)
            for index in sorted(state)
            for _, value in sorted(state[index].items())
        ]
        return [*(array.copy() for array in weights), *moments]

    def restore(self, arrays: list[Array]) -> None:
        """Put a state back."""
        import torch

        names = list(self._network.state_dict())
        tensors = [torch.from_numpy(np.array(array)) for array in arrays]
        self._network.load_state_dict(dict(zip(names, tensors, strict=False)))
        moments = tensors[len(names) :]
        keys = {
            "Adam": ["exp_avg", "exp_avg_sq", "step"],
            "RMSprop": ["square_avg", "step"],
            "SGD": ["momentum_buffer"],
        }[type(self._optimizer).__name__]
        state = self._optimizer.state_dict()
        state["state"] = {
            index: dict(
                zip(keys, moments[index * len(keys) : (index + 1) * len(keys)], strict=True)
            )
            for index in range(len(moments) // len(keys))
        }
        self._optimizer.load_state_dict(state)

    def parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(weight.numel() for weight in self._network.parameters())

    def export(self, folder: Path) -> dict[str, Path]:
        """Write ONNX with softmax and a free batch size, and PyTorch's own weights."""
        import torch

        files = {"onnx": folder / "model.onnx", "torch": folder / "model.pt"}
        name, output = self._names
        self._network.eval()
        torch.onnx.export(
            torch.nn.Sequential(self._network, torch.nn.Softmax(1)),
            (torch.zeros(2, 28, 28),),
            str(files["onnx"]),
            input_names=[name],
            output_names=[output],
            dynamic_axes={name: {0: "batch"}, output: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
        torch.save(self._network.state_dict(), files["torch"])
        return files
