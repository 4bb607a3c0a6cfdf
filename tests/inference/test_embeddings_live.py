"""OpenAI's own package asks for embeddings: both encodings, tokens, money, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import openai
import pytest
from openai import OpenAI

from accounts.models import Organization
from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from tests import factories
from tests.inference.embedders import LONGEST, TOKEN_NANOS, WIDTH, make_embedder, vectors
from tests.live import Site


@pytest.fixture
def embedder(site: Site) -> ModelVersion:
    """A model that reads texts."""
    return make_embedder()


@pytest.fixture
def payer(site: Site) -> Organization:
    """An organization with five dollars."""
    return factories.make_organization()


@pytest.fixture
def client(site: Site, payer: Organization) -> Iterator[OpenAI]:
    """OpenAI's package with a key of ours."""
    _, secret = factories.make_key(payer)
    with OpenAI(api_key=secret, base_url=f"{site.url}/v1", max_retries=0) as made:
        yield made


def test_texts_become_vectors_and_cost_their_tokens(
    client: OpenAI, embedder: ModelVersion, payer: Organization, site: Site
) -> None:
    path = embedder.model.path
    # The package asks for base64 unless told otherwise, and reads it.
    raw = client.embeddings.with_raw_response.create(
        model=path, input=["good morning", "night", "good good good night"]
    )
    found = raw.parse()
    plain = client.embeddings.create(model=path, input="good morning", encoding_format="float")

    words = vectors()
    expected = words[[2, 4, 5, 3]].sum(0)
    assert np.abs(np.array(found.data[0].embedding) - expected).max() < 1e-5
    assert np.abs(np.array(plain.data[0].embedding) - expected).max() < 1e-5
    assert [one.index for one in found.data] == [0, 1, 2]
    assert found.model == embedder.path
    tokens = 4 + 3 + 6
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
    assert Decimal(raw.headers["mercato-cost"]) * NANOS == tokens * TOKEN_NANOS
    assert sorted(UsageEvent.objects.values_list("input_tokens", "rows")) == [(4, 1), (13, 3)]
    # Tokens are counted before money is set aside: no more is reserved than is used.
    assert all(hold.reserved_nanos == hold.captured_nanos for hold in Hold.objects.all())
    site.settle()
    assert budgets.wallet(payer).posted == (tokens + 4) * TOKEN_NANOS


def test_what_is_wrong_is_refused_by_name(client: OpenAI, embedder: ModelVersion) -> None:
    path = embedder.model.path
    with pytest.raises(openai.BadRequestError) as narrow:
        client.embeddings.create(model=path, input="good", dimensions=4)
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model=path, input=["good", "good " * LONGEST])
    with pytest.raises(openai.BadRequestError) as numbers:
        client.embeddings.create(model=path, input=[[4, 5]])
    with pytest.raises(openai.BadRequestError) as wrong:
        client.embeddings.create(model=factories.make_version().model.path, input="good")
    with pytest.raises(openai.BadRequestError) as unknown:
        client.embeddings.create(model=path, input="good", extra_body={"truncate": True})

    assert (narrow.value.code, narrow.value.param) == ("invalid_request", "dimensions")
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input.text.1")
    assert (numbers.value.code, numbers.value.param) == ("invalid_request", "input")
    assert wrong.value.code == "wrong_task"
    assert unknown.value.code == "unknown_field"
    assert not Hold.objects.exists()
    fits = client.embeddings.create(model=path, input="good", dimensions=WIDTH)
    assert len(fits.data[0].embedding) == WIDTH


def test_the_same_model_answers_our_own_form(
    client: OpenAI, embedder: ModelVersion, payer: Organization, site: Site
) -> None:
    _, secret = factories.make_key(payer)
    body = f'{{"model": "{embedder.model.path}", "input": {{"text": "good night"}}}}'.encode()

    answers = [site.predict(secret, body, **{"Idempotency-Key": "once"}) for _ in range(2)]

    first, second = (answer.json() for answer in answers)
    assert first == second
    assert first["cost"]["units"] == {"row": 1, "input_token": 4}
    assert len(first["output"]["embedding"]) == WIDTH
    assert Hold.objects.count() == 1
