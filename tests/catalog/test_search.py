"""Search in English and Chinese."""

from __future__ import annotations

import pytest

from catalog import search
from catalog.models import MLModel
from tests import factories


@pytest.mark.parametrize(
    "query", ["digit", "DIGITS", "手写", "数字识别", "写", "handwritten dig", ""]
)
def test_a_model_is_found_by_its_words(db: None, query: str) -> None:
    version = factories.make_version()

    assert search.search(MLModel.objects.published(), query).get() == version.model


@pytest.mark.parametrize("query", ["igits", "cat", "汽车", "digit cat", "%", "\0"])
def test_other_words_find_nothing(db: None, query: str) -> None:
    factories.make_version()

    found = search.search(MLModel.objects.published(), query)

    assert found.count() == (1 if not search.terms(query) else 0)
