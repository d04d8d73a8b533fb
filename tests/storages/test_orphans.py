"""A commit whose answer is lost leaves no saga with an owner who does not know of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from anysaga._errors import StorageUnavailable
from anysaga._records import Claim
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages._clock import ManualClock
from anysaga.storages._lease import Basket, Orphan, Owner
from anysaga.testing._storage._harness import created, freed, new_saga

pytestmark = pytest.mark.anyio


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(tmp_path / "orders.db") as storage:
        yield storage


@pytest.fixture
def loses_answers(storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give a function after which the answer to the next commit is lost."""
    database = storage._core.database
    begin = database.begin

    @contextmanager
    def losing(connection: sa.Connection, *, writes: bool) -> Iterator[None]:
        monkeypatch.setattr(database, "begin", begin)
        with begin(connection, writes=writes):
            yield
        raise StorageUnavailable("the store", "the answer was lost")

    return lambda: monkeypatch.setattr(database, "begin", losing)


async def _until_free(storage: SQLAlchemyStorage, saga_id: str) -> None:
    with anyio.fail_after(30):
        while (await storage.load(saga_id)).summary.owner is not None:
            await anyio.lowlevel.checkpoint()


async def test_a_saga_that_was_created_unheard_is_freed(
    storage: SQLAlchemyStorage, loses_answers: Callable[[], None]
) -> None:
    await created(storage, "another")
    loses_answers()
    with pytest.raises(StorageUnavailable):
        await storage.create(new_saga("saga-1"))
    await _until_free(storage, "saga-1")
    assert (await storage.claim("saga-1")).fence == 2


async def test_a_saga_that_was_claimed_unheard_is_freed(
    storage: SQLAlchemyStorage, loses_answers: Callable[[], None]
) -> None:
    await freed(storage, "saga-1")
    loses_answers()
    with pytest.raises(StorageUnavailable):
        await storage.claim("saga-1")
    await _until_free(storage, "saga-1")
    loses_answers()
    with pytest.raises(StorageUnavailable):
        await storage.claim_due(["order"], 5)
    await _until_free(storage, "saga-1")
    assert (await storage.load("saga-1")).summary.claims == 0


async def test_what_is_held_after_all_is_kept(storage: SQLAlchemyStorage) -> None:
    claim = await created(storage, "saga-1")
    core = storage._core
    orphan = core.lease.owner.claims["saga-1"]
    await anyio.to_thread.run_sync(core.run_errand, Orphan("saga-1", orphan.fence, core.lease.owner.id))
    assert (await storage.load("saga-1")).summary.owner is not None
    await storage.confirm(claim)


async def test_what_somebody_else_began_first_is_no_orphan(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    """A saga that begins has the same fence, whoever began it: the id was taken, though nobody heard that."""
    async with SQLAlchemyStorage(tmp_path / "orders.db", label="first") as first:
        claim = await created(first, "saga-1")
        core = storage._core
        await anyio.to_thread.run_sync(core.run_errand, Orphan("saga-1", claim.fence, core.lease.owner.id))
        assert (await storage.load("saga-1")).summary.owner == "first"


async def test_what_is_claimed_and_not_told_yet_is_kept(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan of the same fence is looked for just between the commit and the answer."""
    await freed(storage, "saga-1")
    core, hold = storage._core, storage._core.lease.hold

    def look_first(owner: Owner, claims: list[Claim], basket: Basket) -> None:
        core.run_errand(Orphan("saga-1", 2, owner.id))
        hold(owner, claims, basket)

    monkeypatch.setattr(core.lease, "hold", look_first)
    claim = await storage.claim("saga-1")
    assert (claim.fence, (await storage.load("saga-1")).summary.owner is None) == (2, False)


async def test_an_orphan_is_looked_for_as_long_as_a_lease(tmp_path: Path) -> None:
    clock = ManualClock()
    async with SQLAlchemyStorage(tmp_path / "orders.db", lease=30.0, clock=clock) as storage:
        await storage.find()
        lease = storage._lease
        lease.stop()
        lease.look_for(Orphan("saga-1", 1, lease.owner.id))
        assert await anyio.to_thread.run_sync(lease.turn, None) == 10.0
        clock.advance(30.0)
        assert await anyio.to_thread.run_sync(lease.turn, None) is None
