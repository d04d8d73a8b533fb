"""Laws of races: in tasks and in threads, on one incarnation and on two, there is exactly one winner."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio

from anysaga._errors import SagaAlreadyRunning, StaleFence
from anysaga._records import EntryKind, Write
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, freed, ids, new_saga, write

_T = TypeVar("_T")
RACERS = 6


class RacingLaws(StorageHarness):
    """Whatever happens at once happens one after the other."""

    async def test_many_tasks_create_one_saga(self, storage: Storage, other: Storage) -> None:
        """Of all tasks that create the same id, one gets the claim."""
        claims = await _in_tasks([partial(_pick(storage, other, n).create, new_saga()) for n in range(RACERS)])
        assert len([claim for claim in claims if claim is not None]) == 1

    async def test_many_threads_create_one_saga(
        self, storage: Storage, other: Storage, anyio_backend_name: str
    ) -> None:
        """The same with a loop in each thread."""
        claims = await _in_threads(
            [partial(_pick(storage, other, n).create, new_saga()) for n in range(RACERS)], anyio_backend_name
        )
        assert len([claim for claim in claims if claim is not None]) == 1

    async def test_many_tasks_claim_one_saga(self, storage: Storage, other: Storage) -> None:
        """One claims; the others hear `SagaAlreadyRunning`."""
        await freed(storage, "saga-1")
        results = await _in_tasks([partial(_claim, _pick(storage, other, n)) for n in range(RACERS)])
        assert sorted(results) == [0] * (RACERS - 1) + [2]

    async def test_many_threads_claim_one_saga(self, storage: Storage, other: Storage, anyio_backend_name: str) -> None:
        """The same with a loop in each thread, and with a dead owner."""
        await created(storage)
        await self.die(storage)
        results = await _in_threads(
            [partial(_claim, _pick(storage, other, n)) for n in range(RACERS)], anyio_backend_name
        )
        assert sorted(results) == [0] * (RACERS - 1) + [2]

    async def test_due_sagas_are_shared_out(self, storage: Storage, other: Storage, anyio_backend_name: str) -> None:
        """Workers that claim at once get each saga once, and all of them together."""
        expected = [f"saga-{number:02}" for number in range(20)]
        for saga_id in expected:
            await freed(storage, saga_id)
        taken = await _in_threads(
            [partial(_claim_all, _pick(storage, other, n)) for n in range(RACERS)], anyio_backend_name
        )
        assert sorted(saga_id for share in taken for saga_id in share) == expected

    async def test_many_tasks_write_one_seq(self, storage: Storage) -> None:
        """Of different writes at the same seq one is recorded; the others hear `StaleFence`."""
        claim = await created(storage)
        writes = [write(claim, entry(2, EntryKind.DONE, response=str(n))) for n in range(RACERS)]
        results = await _in_tasks([partial(_record, storage, each) for each in writes])
        assert results.count(True) == 1
        (stored,) = (await storage.load("saga-1")).entries[1:]
        assert stored.response == str(results.index(True))

    async def test_many_threads_send_one_write(self, storage: Storage, other: Storage, anyio_backend_name: str) -> None:
        """Equal writes at once are one write, and all hear of success."""
        claim = await created(storage)
        same = write(claim, entry(2, EntryKind.DONE, response="1"))
        results = await _in_threads(
            [partial(_record, _pick(storage, other, n), same) for n in range(RACERS)], anyio_backend_name
        )
        assert results == [True] * RACERS
        assert len((await storage.load("saga-1")).entries) == 2

    async def test_sagas_do_not_disturb_each_other(
        self, storage: Storage, other: Storage, anyio_backend_name: str
    ) -> None:
        """Sagas driven at once, in several threads, each end with their own whole log."""
        await _in_threads(
            [partial(_drive, _pick(storage, other, n), f"saga-{n}") for n in range(RACERS)], anyio_backend_name
        )
        for number in range(RACERS):
            record = await storage.load(f"saga-{number}")
            assert [each.response for each in record.entries] == [None, *(f"saga-{number}-{n}" for n in range(2, 12))]


def _pick(storage: Storage, other: Storage, number: int) -> Storage:
    return storage if number % 2 else other


async def _claim(storage: Storage) -> int:
    try:
        return (await storage.claim("saga-1")).fence
    except SagaAlreadyRunning:
        return 0


async def _claim_all(storage: Storage) -> list[str]:
    taken: list[str] = []
    while claims := await storage.claim_due(["order"], 2):
        taken += ids(claims)
    return taken


async def _record(storage: Storage, each: Write) -> bool:
    try:
        await storage.record(each)
    except StaleFence:
        return False
    return True


async def _drive(storage: Storage, saga_id: str) -> None:
    claim = await created(storage, saga_id)
    for seq in range(2, 12):
        await storage.confirm(claim)
        await storage.record(write(claim, entry(seq, EntryKind.DONE, response=f"{saga_id}-{seq}")))


async def _in_tasks(runners: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    results: dict[int, _T] = {}

    async def run(number: int) -> None:
        results[number] = await runners[number]()

    async with anyio.create_task_group() as group:
        for number in range(len(runners)):
            group.start_soon(run, number)
    return [results[number] for number in range(len(runners))]


async def _in_threads(runners: Sequence[Callable[[], Awaitable[_T]]], backend: str) -> list[_T]:
    start = threading.Barrier(len(runners))

    def run(runner: Callable[[], Awaitable[_T]]) -> _T:
        async def main() -> _T:
            start.wait()
            return await runner()

        return anyio.run(main, backend=backend)

    limiter = anyio.CapacityLimiter(len(runners))

    async def in_thread(runner: Callable[[], Awaitable[_T]]) -> _T:
        return await anyio.to_thread.run_sync(run, runner, limiter=limiter)

    return await _in_tasks([partial(in_thread, runner) for runner in runners])
