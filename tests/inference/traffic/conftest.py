"""Two versions of a model, and who publishes it."""

from __future__ import annotations

import numpy as np
import pytest
from django.conf import settings

from accounts.models import Organization, User
from catalog import artifacts, publishing
from catalog.models import ModelVersion
from tests.factories import DIGIT_SIGNATURE, make_organization, make_user, make_version, write_onnx


@pytest.fixture
def publisher(db: None) -> User:
    return make_user("publisher@example.com")


@pytest.fixture
def house(publisher: User) -> Organization:
    return make_organization(owner=publisher, slug="house")


@pytest.fixture
def first(house: Organization) -> ModelVersion:
    """The current version; a newer one does not take its place by itself."""
    version = make_version(owner=house, name="digits")
    publishing.pin(version.model, version, actor=None)
    return version


@pytest.fixture
def second(first: ModelVersion) -> ModelVersion:
    return add_version(first, 2)


def add_version(first: ModelVersion, number: int, **fields: object) -> ModelVersion:
    """Publish another version of the same model."""
    version = ModelVersion.objects.create(
        model=first.model,
        number=number,
        status=ModelVersion.Status.DRAFT,
        **({"signature": DIGIT_SIGNATURE} | fields),
    )
    write_onnx(version)
    publishing.publish(version, actor=None)
    first.model.refresh_from_db()
    return version


def turn_around(version: ModelVersion) -> None:
    """Have a version see the last digit where another one sees the first."""
    import onnx
    from onnx import numpy_helper

    artifact = version.artifacts.get()
    path = settings.ARTIFACTS / artifact.path
    made = onnx.load(path)
    weights = numpy_helper.to_array(made.graph.initializer[0])
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(weights[:, ::-1]), "weights")
    )
    path.write_bytes(made.SerializeToString())
    artifact.sha256 = artifacts.sha256(path)
    artifact.save(update_fields=["sha256"])
