"""Concurrent writes of a SQLAlchemyStorage share commits, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from anysaga._errors import NotStorable, SagaNotFound, StaleFence, StorageClosed, StorageUnavailable
from anysaga._records import Claim, EntryKind, SagaState
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, new_saga, write

pytestmark = pytest.mark.anyio

Verb = Callable[[], Awaitable[object]]


class Commits:
    """Counts the transactions of a storage that write."""

    def __init__(self, storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        database = storage._core.database
        begin, single = database.begin, database.single

        def counted_single(connection: sa.Connection) -> AbstractContextManager[object]:
            self.count += 1
            return single(connection)

        def counted(connection: sa.Connection, *, writes: bool) -> AbstractContextManager[object]:
            self.count += writes
            return begin(connection, writes=writes)

        monkeypatch.setattr(database, "begin", counted)
        monkeypatch.setattr(database, "single", counted_single)


@pytest.fixture(params=["sqlite", "sqlite+aiosqlite"])
async def storage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(f"{request.param}:///{tmp_path / 'orders.db'}", busy_timeout=0.05) as storage:
        yield storage


@pytest.fixture
def commits(storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch) -> Commits:
    return Commits(storage, monkeypatch)


async def together(storage: SQLAlchemyStorage, *verbs: Verb) -> list[object]:
    """Call all verbs, so that they meet in one batch. Returns what each of them returned or raised."""
    results: list[object] = [None] * len(verbs)

    async def call(number: int) -> None:
        try:
            results[number] = await verbs[number]()
        except Exception as error:  # noqa: BLE001  # for the test to look at
            results[number] = error

    async with anyio.create_task_group() as group:
        storage._core.batches.pause()
        for number in range(len(verbs)):
            group.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
        storage._core.batches.resume()
    return results


async def _claims(storage: SQLAlchemyStorage, count: int) -> list[Claim]:
    return [await created(storage, f"saga-{number}") for number in range(count)]


def _done(storage: SQLAlchemyStorage, claim: Claim, seq: int = 2, **changes: Any) -> Verb:
    return partial(storage.record, write(claim, entry(seq, EntryKind.DONE, **changes)))


async def _seqs(storage: SQLAlchemyStorage) -> list[int]:
    return [summary.seq for summary in await storage.find()]


async def test_sagas_at_once_share_a_commit(storage: SQLAlchemyStorage, commits: Commits) -> None:
    await _claims(storage, 1)
    before = commits.count
    claims = await together(storage, *(partial(created, storage, f"more-{number}") for number in range(50)))
    assert commits.count - before == 1
    moments = await together(storage, *(_done(storage, claim) for claim in claims if isinstance(claim, Claim)))
    assert commits.count - before == 2
    assert len(moments) == 50
    assert len(set(moments)) == 1
    assert await _seqs(storage) == [2] * 50 + [1]


async def test_free_running_sagas_need_far_fewer_commits_than_writes(
    storage: SQLAlchemyStorage, commits: Commits
) -> None:
    claims = await _claims(storage, 20)
    before = commits.count

    async def drive(claim: Claim) -> None:
        for seq in range(2, 12):
            await _done(storage, claim, seq)()

    async with anyio.create_task_group() as group:
        for claim in claims:
            group.start_soon(drive, claim)
    assert commits.count - before <= 20 * 10 / 2
    assert await _seqs(storage) == [11] * 20


async def test_a_claim_from_a_batch_is_what_is_stored(storage: SQLAlchemyStorage) -> None:
    for claim in await together(
        storage, *(partial(created, storage, f"saga-{number}", timeout=9.0) for number in "ab")
    ):
        assert isinstance(claim, Claim)
        assert claim.record == await storage.load(claim.record.summary.saga_id)
        await storage.confirm(claim)


async def test_a_conflict_fails_its_saga_alone(storage: SQLAlchemyStorage, commits: Commits) -> None:
    claims = await _claims(storage, 4)
    await storage.release(claims[1])
    taken = await storage.claim("saga-1")
    before = commits.count
    lost = Claim(claims[3].record, 1, 0)
    results = await together(storage, *(_done(storage, claim) for claim in claims[:3]), _done(storage, lost, seq=7))
    assert [type(result) for result in results] == [int, StaleFence, int, StaleFence]
    assert commits.count - before <= 2  # one in the hope that all of them fit, and one that looks first
    assert await _seqs(storage) == [2, 1, 2, 1]
    assert not taken.lost


async def test_an_unknown_saga_fails_alone(storage: SQLAlchemyStorage) -> None:
    (claim,) = await _claims(storage, 1)
    nobody = Claim((await storage.load("saga-0")), 1, 0)
    unknown = write(nobody, entry(2, EntryKind.DONE), saga_id="nobody")
    results = await together(storage, _done(storage, claim), partial(storage.record, unknown))
    assert [type(result) for result in results] == [int, SagaNotFound]


async def test_the_same_write_again_is_a_success(storage: SQLAlchemyStorage) -> None:
    first, second = await _claims(storage, 2)
    at = await _done(storage, first)()
    results = await together(storage, _done(storage, first), _done(storage, second), _done(storage, first))
    assert (results[0], results[2]) == (at, at)
    assert await _seqs(storage) == [2, 2]


async def test_an_id_that_is_taken_is_taken_in_a_batch_too(storage: SQLAlchemyStorage) -> None:
    await _claims(storage, 1)
    ids = ["saga-0", "new", "new", "other"]
    results = await together(storage, *(partial(storage.create, new_saga(saga_id)) for saga_id in ids))
    assert [result is None for result in results] == [True, False, True, False]


@pytest.mark.parametrize("bad", [{"response": '"\ud800"'}, {"attempt": 2**70}])
async def test_a_bad_row_fails_its_saga_alone(storage: SQLAlchemyStorage, bad: dict[str, Any]) -> None:
    claims = await _claims(storage, 3)
    results = await together(
        storage,
        _done(storage, claims[0]),
        _done(storage, claims[1], **bad),
        partial(storage.create, new_saga("bad", context='"\ud800"')),
        partial(storage.create, new_saga("saga-9")),
        _done(storage, claims[2]),
    )
    assert [type(result) for result in results] == [int, NotStorable, NotStorable, Claim, int]
    assert await _seqs(storage) == [2, 1, 2, 1]


async def test_a_row_that_finds_no_room_leaves_it_to_the_others(storage: SQLAlchemyStorage) -> None:
    claims = await _claims(storage, 3)
    used = storage._core.writer.run(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    _limit_pages(storage, used + 20)
    huge = "x" * 5_000_000
    results = await together(
        storage, _done(storage, claims[0]), _done(storage, claims[1], response=huge), _done(storage, claims[2])
    )
    assert [type(result) for result in results] == [int, StorageUnavailable, int]
    _limit_pages(storage, 1_000_000)
    await _done(storage, claims[1])()
    assert await _seqs(storage) == [2, 2, 2]


def _limit_pages(storage: SQLAlchemyStorage, pages: int) -> None:
    storage._core.writer.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))


async def test_a_store_that_does_not_answer_fails_all_with_errors_of_their_own(
    storage: SQLAlchemyStorage, tmp_path: Path
) -> None:
    claims = await _claims(storage, 3)
    with closing(sqlite3.connect(tmp_path / "orders.db", isolation_level=None)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        results = await together(storage, *(_done(storage, claim) for claim in claims))
    assert [type(result) for result in results] == [StorageUnavailable] * 3
    assert len({id(result) for result in results}) == 3
    assert all(isinstance(result, Exception) and result.__cause__ is not None for result in results)
    assert await _seqs(storage) == [1, 1, 1]
    assert [type(at) for at in await together(storage, *(_done(storage, claim) for claim in claims))] == [int] * 3


async def test_releases_and_ends_go_with_the_rest(storage: SQLAlchemyStorage, commits: Commits) -> None:
    first, second, third = await _claims(storage, 3)
    before = commits.count
    end = write(second, entry(2, EntryKind.COMPLETED), state=SagaState.COMPLETED)
    await together(storage, partial(storage.release, first), partial(storage.record, end), _done(storage, third, seq=2))
    assert commits.count - before == 1
    assert [summary.owner is None for summary in await storage.find()] == [True, True, False]
    assert storage._lease.held() == [third]


async def test_the_heartbeat_goes_in_the_next_batch(storage: SQLAlchemyStorage, commits: Commits) -> None:
    (claim,) = await _claims(storage, 1)
    storage._lease.stop()
    before, renewed = commits.count, storage._lease.owner.renewed
    beat = partial(anyio.to_thread.run_sync, storage._lease.beat)
    assert await together(storage, _done(storage, claim), beat) != [None, None]
    assert commits.count - before <= 2  # one, unless the beat came when the batch had gone
    assert storage._lease.owner.renewed != renewed


async def test_closing_meanwhile_loses_nothing_that_was_acknowledged(
    storage: SQLAlchemyStorage, tmp_path: Path
) -> None:
    claims = await _claims(storage, 10)
    results = await together(storage, *(_done(storage, claim) for claim in claims), storage.aclose)
    async with SQLAlchemyStorage(tmp_path / "orders.db") as after:
        for result, seq in zip(results, await _seqs(after), strict=False):
            assert (type(result), seq) in [(int, 2), (StorageClosed, 1)]


async def test_what_comes_after_closing_is_refused(storage: SQLAlchemyStorage) -> None:
    claims = await _claims(storage, 2)
    await storage.aclose()
    results = await together(storage, *(_done(storage, claim) for claim in claims))
    assert [type(result) for result in results] == [StorageClosed] * 2
