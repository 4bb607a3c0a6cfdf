"""What watchers of a batch file hear, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from rest_framework.test import APIClient

from catalog.models import ModelVersion
from inference import streams
from inference.batch_files import events, leases, orders, watching
from inference.models import BatchFile
from tests.inference.batch_files.conftest import jsonl, upload

Frames = AsyncIterator[bytes]


@pytest.fixture
def batch(client: APIClient, version: ModelVersion) -> BatchFile:
    assert upload(client, version, jsonl(2)).status_code == 201
    return BatchFile.objects.get()


async def hear(frames: Frames) -> tuple[str, dict[str, Any], str]:
    """Return the next event: its name, its data, its id."""
    async with asyncio.timeout(30):
        async for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.decode().splitlines() if line)
            if "event" in fields:
                return fields["event"], json.loads(fields["data"]), fields["id"]
    return "closed", {}, ""


def test_each_event_is_the_whole_file_as_it_is(batch: BatchFile) -> None:
    async def watch() -> None:
        frames = watching.stream(batch.pk)
        name, data, _ = await hear(frames)
        assert (name, data["status"], data["row_errors"]) == ("state", "checking", [])
        # What is rung while nobody reads is one event.
        await sync_to_async(_move)(batch)
        name, data, _ = await hear(frames)
        assert (name, data["status"], data["counts"]["rows"]) == ("state", "ready", 7)
        await sync_to_async(orders.cancel)(batch)
        name, data, _ = await hear(frames)
        assert (name, data["status"]) == ("end", "canceled")
        assert await hear(frames) == ("closed", {}, "")

    async_to_sync(watch)()


def _move(batch: BatchFile) -> None:
    for rows in (3, 7):
        BatchFile.objects.filter(pk=batch.pk).update(status="ready", rows=rows)
        events.ring(batch.pk)


def test_who_comes_back_hears_at_once_how_things_are(batch: BatchFile) -> None:
    async def come_back() -> tuple[str, dict[str, Any], str]:
        _, _, last = await hear(watching.stream(batch.pk))
        return await hear(streams.stream(watching.SOURCE, batch.pk, last))

    events.ring(batch.pk)

    name, data, _ = async_to_sync(come_back)()
    assert (name, data["id"]) == ("state", str(batch.pk))


def test_a_file_that_is_removed_meanwhile_closes_the_stream(batch: BatchFile) -> None:
    def remove() -> None:
        leases.fail(batch.pk, "file_lost", "It is gone.")
        orders.delete(batch)

    async def watch() -> tuple[str, dict[str, Any], str]:
        frames = watching.stream(batch.pk)
        await hear(frames)
        await sync_to_async(remove)()
        return await hear(frames)

    assert async_to_sync(watch)()[0] == "closed"
