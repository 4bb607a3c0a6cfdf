"""A file takes the memory of a chunk, however many rows it has."""

from __future__ import annotations

import tracemalloc
from collections import deque

import pytest

from accounts.keys import Caller
from accounts.models import Organization
from catalog.models import ModelVersion
from inference import loading
from inference.batch_files import orders
from inference.batch_files.orders import Order
from inference.metrics import counting
from inference.models import BatchFile
from tests.inference.batch_files.conftest import jsonl, work

pytestmark = pytest.mark.usefixtures("books", "small_chunks")


@pytest.fixture(autouse=True)
def _nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is carried away once a second, however long a file is; here nobody does."""
    for name in ("calls", "events"):
        monkeypatch.setattr(counting, name, deque(maxlen=0))


def peak_bytes(organization: Organization, version: ModelVersion, rows: int) -> int:
    """Check and run a file; return the most memory that was taken meanwhile."""
    caller = Caller(organization.pk, organization.slug)
    wanted = Order(ref=version.model.path, name="rows.jsonl", starts_itself=True)
    batch, _ = orders.create(caller, wanted, [jsonl(rows)])
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert BatchFile.objects.get(pk=batch.pk).status == "succeeded"


def test_three_times_the_rows_take_no_more_memory(
    organization: Organization, version: ModelVersion
) -> None:
    loading.session_of(version.pk)
    peak_bytes(organization, version, 60)
    few = peak_bytes(organization, version, 300)

    many = peak_bytes(organization, version, 900)

    # The second file has two megabytes more; the first run fills caches.
    assert many < few + 200_000
