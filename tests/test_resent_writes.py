"""A write that is sent again, while others of its saga want to write."""

from __future__ import annotations

import pytest
from trips import Book, Trip, trip_of

from anysaga import MemoryStorage, Parallel, SagaState, StorageUnavailable, checkpoint
from anysaga.abc import Write

pytestmark = pytest.mark.anyio


class Flaky(MemoryStorage):
    """Never waits, and does not answer once."""

    failed = False

    async def record(self, write: Write) -> int:
        if not self.failed:
            self.failed = True
            raise StorageUnavailable("flaky", "it is away for a moment")
        return await super().record(write)


async def test_another_branch_waits_for_it_though_the_store_never_waits(did: list[str]) -> None:
    """E1: its write would come before the one it follows, and be refused."""

    async def save(trip: Trip) -> None:
        await checkpoint()

    part = Parallel(Book("a", did, act=save), Book("b", did, act=save))
    assert (await trip_of(Flaky(), part).run(Trip())).state is SagaState.COMPLETED
