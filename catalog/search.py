"""Search in English and Chinese, the same on both databases."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from catalog.models import MLModel
from catalog.models.models import MLModelQuerySet, Task

_WORD = re.compile(r"[a-z0-9]+|[\u3400-\u9fff]+")


def terms(text: str) -> list[str]:
    """Split a text into words; a run of Chinese becomes its pairs of characters."""
    found: list[str] = []
    for run in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if run.isascii() or len(run) == 1:
            found.append(run)
        else:
            found.extend(left + right for left, right in pairwise(run))
    return found


def search_text(model: MLModel) -> str:
    """Return what is stored for a model, to be searched by `search`."""
    task = str(Task(model.task).label)
    parts = [
        model.path,
        model.title_en,
        model.title_zh,
        model.summary_en,
        model.summary_zh,
        task,
        model.task,
        model.framework,
        model.card_en,
        model.card_zh,
    ]
    words = dict.fromkeys(terms(" ".join(parts)))
    # A single Chinese character must find the pairs it is part of: icontains does that.
    return " " + " ".join(words) + " "


def search(queryset: MLModelQuerySet, query: str) -> MLModelQuerySet:
    """Keep the models that have every word of the query, as the beginning of a word."""
    for term in terms(query)[:12]:
        prefix = f" {term}" if term.isascii() else term
        queryset = queryset.filter(search_text__contains=prefix)
    return queryset
