"""A file takes the memory of a chunk, however many rows it has."""

from __future__ import annotations

import tracemalloc

import pytest

from accounts.keys import Caller
from accounts.models import Organization
from catalog.models import ModelVersion
from inference import loading
from inference.batch_files import orders
from inference.batch_files.orders import Order
from inference.models import BatchFile
from tests.inference.batch_files.conftest import jsonl, work

pytestmark = pytest.mark.usefixtures("books", "small_chunks")


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


def test_ten_times_the_rows_take_no_more_memory(
    organization: Organization, version: ModelVersion
) -> None:
    loading.session_of(version.pk)
    few = peak_bytes(organization, version, 60)

    many = peak_bytes(organization, version, 600)

    # The second file alone has two megabytes.
    assert many < few + 300_000
