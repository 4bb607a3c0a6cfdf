"""A request of the hot door, when it was answered."""

from __future__ import annotations

from functools import lru_cache

from inference.answers import Answer
from inference.metrics import counting

# The caller went away before there was an answer.
GONE = 499
_MOST_PARTS = 8
# The words of our own paths. Whatever else stands between slashes is a name, and no label.
_WORDS = frozenset(
    {
        *("v1", "v2", "predictions", "models", "versions", "infer", "predict", "ready", "live"),
        *("health", "stats", "cancel", "events", "embeddings", "chat", "completions", "batches"),
        *("files", "metadata", "generate", "input", "output"),
    }
)
# After these come so many names, even if they look like a word.
_NAMES = {
    "v1/models": 2,
    **{f"v1/{word}": 1 for word in ("predictions", "batches", "files", "versions")},
    **{f"v2/{word}": 1 for word in ("models", "versions")},
}


def served(method: str, path: str, status: int, began_ns: int, answer: Answer | None) -> None:
    """Count a request of the hot door that was answered, and its stages if a model answered."""
    microseconds = counting.since(began_ns)
    counting.request(method, route_of(path), status, microseconds)
    if answer is not None and answer.times is not None:
        counting.answer(answer.model_path, answer.hold_id, microseconds, answer.times)


@lru_cache(maxsize=4096)
def route_of(path: str) -> str:
    """Return the pattern of a path of the hot door: names are replaced by `{}`."""
    parts = path.split("/")[1:]
    if len(parts) > _MOST_PARTS:
        return "other"
    found: list[str] = []
    names = 0
    for part in parts:
        is_name = names > 0 or part not in _WORDS
        found.append(_name(part) if is_name else part)
        names = max(names - 1, 0) if is_name else _NAMES.get(f"{parts[0]}/{part}", 0)
    return "/" + "/".join(found)


def _name(part: str) -> str:
    verb = part.rpartition(":")[2]
    return f"{{}}:{verb}" if verb != part and verb in _WORDS else "{}"
