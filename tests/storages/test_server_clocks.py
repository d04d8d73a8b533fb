"""Leases, due times and deadlines are moments of the server: a host whose clock is hours off does no harm."""

from __future__ import annotations

import time

import pytest
from attrs import define
from server_stores import Server

from anysaga import Saga, SagaState, Step
from anysaga._errors import SagaAlreadyRunning
from anysaga._records import EntryKind
from anysaga.storages._clock import HostClock
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio

HOURS = 5 * 3600


class NoClock(HostClock):
    """A host without a clock on its wall."""

    def now(self) -> int:
        pytest.fail("a store on a server asked the host for the time")


@define
class Order:
    acts: int = 0


class Charge(Step[Order]):
    """The only step."""

    async def act(self, order: Order) -> None:
        order.acts += 1

    async def compensate(self, order: Order) -> None:
        order.acts -= 1


async def test_the_clock_of_the_host_is_never_read(server: Server) -> None:
    async with server.new_storage(clock=NoClock()) as storage, server.twin() as other:
        claim = await created(storage, timeout=60.0)
        await storage.confirm(claim)
        at = await storage.record(write(claim, entry(2, EntryKind.DONE)))
        await storage.release(claim)
        (again,) = await storage.claim_due(["order"], 1)
        storage._lease.beat()
        assert again.now - at < 60_000_000
        theirs = await created(other, "saga-2")
        assert 0 <= theirs.now - again.now < 60_000_000


@pytest.mark.parametrize("seconds", [HOURS, -HOURS], ids=["ahead", "behind"])
async def test_a_host_that_is_hours_off_takes_nothing_and_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    wall = time.time_ns
    async with server.new_storage() as storage:
        claim = await created(storage)
        monkeypatch.setattr("time.time_ns", lambda: wall() + seconds * 10**9)
        monkeypatch.setattr("time.time", lambda: wall() / 1e9 + seconds)
        async with server.twin() as off:
            with pytest.raises(SagaAlreadyRunning):
                await off.claim("saga-1")
            assert await off.claim_due(["order"], 10) == []
            mine = await created(off, "saga-2")
            with pytest.raises(SagaAlreadyRunning):
                await storage.claim("saga-2")
            await storage.confirm(claim)
            await off.confirm(mine)
            saga = Saga[Order](name="other", steps=[Charge], storage=off, timeout=60.0)
            assert (await saga.run(Order(), saga_id="in-time")).state is SagaState.COMPLETED
