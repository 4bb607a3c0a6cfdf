"""Fixtures of the asynchronous predictions' tests: rows are accepted and run in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from accounts.keys import Caller
from accounts.models import Organization
from billing import settlement
from billing.invariants import violations
from billing.reports import terms_of
from catalog.models import ModelVersion
from inference import inputs, loading, versions
from inference.asynchronous import accepting
from inference.asynchronous.wishes import Wish
from inference.models import Prediction
from inference.predictions import Call
from inference.runtime import tensors
from inference.runtime.cache import ModelCache
from tests import factories

LATER = Wish(wait_seconds=0, applied="respond-async")
Accept = Callable[..., Prediction]


@pytest.fixture(autouse=True)
def _alone(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A pool without workers: those of other tests must not take these rows.
    settings.PREDICT_POOL = "nobody"
    # Ids come again after each test; a process of its own would know nothing of them.
    monkeypatch.setattr(loading, "sessions", ModelCache(settings.MODEL_CACHE_BYTES))
    monkeypatch.setattr(loading, "_failures", {})
    loading.signature_of.cache_clear()
    terms_of.cache_clear()
    yield
    settlement.settle()
    assert violations() == []


@pytest.fixture
def version() -> ModelVersion:
    return factories.make_version()


def call_of(
    organization: Organization, version: ModelVersion, digit: int = 3, **fields: Any
) -> Call:
    """Return a call as the face of predictions reads it."""
    value = fields.pop("value", {"image": factories.image(digit)})
    return Call(
        caller=Caller(organization.pk, organization.slug),
        ref=version.path,
        decode=partial(tensors.decode, value),
        source="api",
        request_id=f"req_{uuid4().hex}",
        stored_input=value,
        input_bytes=100,
        **fields,
    )


@pytest.fixture
def accept(organization: Organization, version: ModelVersion) -> Accept:
    """Accept a prediction: of the one organization and version unless others are given."""

    def make(wish: Wish = LATER, **fields: Any) -> Prediction:
        owner = fields.pop("organization", organization)
        of = fields.pop("version", version)
        return accept_call(call_of(owner, of, **fields), wish)

    return make


def accept_call(call: Call, wish: Wish = LATER) -> Prediction:
    """Accept a call as the gateway does."""
    served = versions.resolve(call.ref, call.caller)
    checked = inputs.read(call.stored_input, served.signature)
    return accepting.accept(call, wish, served, checked).prediction
