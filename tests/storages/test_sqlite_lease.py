"""One lease for an incarnation: kept while it is needed, lost for ever once taken."""

from __future__ import annotations

import gc
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from anysaga._crossing_threads import Waker
from anysaga._errors import SagaAlreadyRunning, StaleFence, StorageUnavailable
from anysaga._records import LIVE_STATES, Claim, EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages._clock import ManualClock
from anysaga.storages._lease import Basket, Errand, Owner
from anysaga.storages.sql._jobs import Job
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio


class Commits:
    """What SQLite executes on the connections of an engine, a statement for each row."""

    def __init__(self, file: Path) -> None:
        self.statements: list[str] = []
        self.engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
        event.listen(self.engine, "connect", self._connected)

    @property
    def count(self) -> int:
        return self.statements.count("COMMIT")

    def _connected(self, driver: sqlite3.Connection, _record: object) -> None:
        driver.set_trace_callback(self.statements.append)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def commits(tmp_path: Path) -> Commits:
    return Commits(tmp_path / "orders.db")


@pytest.fixture
async def storage(commits: Commits, clock: ManualClock) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(commits.engine, lease=30.0, clock=clock, label="first") as storage:
        storage._lease.stop()
        yield storage


@pytest.fixture
async def other(tmp_path: Path, clock: ManualClock, storage: object) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(tmp_path / "orders.db", lease=30.0, clock=clock, label="other") as other:
        other._lease.stop()
        yield other


async def test_a_record_writes_its_rows_and_reads_nothing_however_long_the_log(
    storage: SQLAlchemyStorage, commits: Commits
) -> None:
    claim = await created(storage)
    for seq in (2, 4):
        commits.statements.clear()
        await storage.record(write(claim, entry(seq, EntryKind.DONE), entry(seq + 1)))
        words = [statement.split()[0] for statement in commits.statements]
        assert words == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]


async def test_confirm_is_free_while_the_lease_is_young(
    storage: SQLAlchemyStorage, commits: Commits, clock: ManualClock
) -> None:
    claim = await created(storage)
    before = commits.count
    clock.advance(19.0)
    await storage.confirm(claim)
    assert commits.count == before
    clock.advance(2.0)
    await storage.confirm(claim)
    assert commits.count == before + 1
    await storage.confirm(claim)
    assert commits.count == before + 1


async def test_one_beat_renews_all_sagas(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, commits: Commits, clock: ManualClock
) -> None:
    for number in range(10):
        await created(storage, f"saga-{number}")
    before = commits.count
    for _ in range(5):
        clock.advance(20.0)
        storage._lease.beat()
    assert commits.count - before == 5
    assert await other.claim_due(["order"], 10) == []


async def test_without_claims_nothing_beats(storage: SQLAlchemyStorage, commits: Commits, clock: ManualClock) -> None:
    await storage.release(await created(storage))
    before = commits.count
    clock.advance(20.0)
    storage._lease.beat()
    assert commits.count == before


async def test_a_lease_that_ran_out_is_taken(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock
) -> None:
    former = await created(storage)
    clock.advance(30.0)
    with pytest.raises(SagaAlreadyRunning):
        await other.claim("saga-1")
    clock.advance(0.000_001)
    assert (await other.claim("saga-1")).fence == 2
    with pytest.raises(StaleFence):
        await storage.confirm(former)
    assert former.lost


async def test_a_lease_that_ran_out_and_nobody_took_is_still_ours(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock
) -> None:
    claim = await created(storage)
    clock.advance(3600.0)
    await storage.confirm(claim)
    with pytest.raises(SagaAlreadyRunning):
        await other.claim("saga-1")
    clock.advance(3600.0)
    again = await created(storage, "saga-2")
    await storage.confirm(claim)
    await storage.confirm(again)


async def test_a_claim_that_was_overtaken_is_not_confirmed_though_its_owner_lives(
    storage: SQLAlchemyStorage, commits: Commits, clock: ManualClock
) -> None:
    claim = await created(storage)
    with commits.engine.begin() as connection:
        connection.execute(sa.text("UPDATE anysaga_sagas SET fence = 2"))
    clock.advance(21.0)
    with pytest.raises(StaleFence):
        await storage.confirm(claim)
    assert claim.lost


async def test_a_claim_of_an_incarnation_that_is_dead_is_not_confirmed_though_nobody_has_taken_it_yet(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock
) -> None:
    claim = await created(storage)
    clock.advance(31.0)
    assert await other.claim_due(["other sagas"], 1) == []
    with pytest.raises(StaleFence):
        await storage.confirm(claim)
    assert claim.lost


async def test_a_claim_whose_write_was_overtaken_is_lost(storage: SQLAlchemyStorage, commits: Commits) -> None:
    """So it is kept alive no longer, and what else of its saga runs here is told."""
    claim = await created(storage)
    with commits.engine.begin() as connection:
        connection.execute(sa.text("UPDATE anysaga_sagas SET fence = 2"))
    with pytest.raises(StaleFence):
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert claim.lost
    assert storage._lease.held() == []


async def test_claims_are_lost_before_they_are_given_back_by_closing(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an act could begin here whose saga somebody else may have taken up by then."""
    claim, lost = await created(storage), list[bool]()
    operations = storage._core.operations
    leave = operations.leave

    def leaving(connection: sa.Connection, owner: str) -> None:
        lost.append(claim.lost)
        leave(connection, owner)

    monkeypatch.setattr(operations, "leave", leaving)
    await storage.aclose()
    assert lost == [True]


async def test_what_was_just_claimed_is_confirmed_for_nothing(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, commits: Commits, clock: ManualClock
) -> None:
    """A claim renews the lease, if that is not young any more."""
    await other.release(await created(other))
    await created(storage, "saga-2")
    clock.advance(21.0)
    before = commits.count
    await storage.confirm(await storage.claim("saga-1"))
    assert commits.count == before + 1


async def test_the_beat_learns_of_death_and_loses_every_claim(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock
) -> None:
    claims = [await created(storage, f"saga-{number}") for number in range(3)]
    told: list[str] = []
    for claim in claims:
        claim.watch(lambda: told.append("lost"))
    clock.advance(31.0)
    await other.claim("saga-1")
    storage._lease.beat()
    assert told == ["lost"] * 3
    assert all(claim.lost for claim in claims)


async def test_the_dead_stay_dead(storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock) -> None:
    former = await created(storage)
    clock.advance(31.0)
    await other.claim("saga-1")
    again = await created(storage, "saga-2")
    assert former.lost
    await storage.confirm(again)
    with pytest.raises(StaleFence):
        await storage.confirm(former)


async def test_a_machine_that_slept_does_not_claim_for_the_dead(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(storage)
    awake = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: awake)
    clock.advance(3600.0)
    await other.claim("saga-1")
    await created(storage, "saga-2")
    with pytest.raises(SagaAlreadyRunning):
        await other.claim("saga-2")


async def test_owners_that_died_long_ago_are_forgotten(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, commits: Commits, clock: ManualClock
) -> None:
    await created(storage)
    clock.advance(31.0)
    await created(other, "saga-2")
    await other.claim_due(["invoice"], 1)
    clock.advance(2 * 86_400.0)
    async with SQLAlchemyStorage(commits.engine, clock=clock) as third:
        assert [claim.fence for claim in await third.claim_due(["order"], 1)] == [2]
    with commits.engine.connect() as connection:
        labels = connection.scalars(sa.text("SELECT label FROM anysaga_owners")).all()
    assert labels == ["other"]


async def test_the_heartbeat_thread_beats_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = Waker()
    file = tmp_path / "orders.db"
    async with SQLAlchemyStorage(file, lease=0.03) as storage, SQLAlchemyStorage(file, lease=0.03) as other:
        renew = storage._core.renew

        def renew_and_tell(owner: Owner) -> bool:
            beaten.wake()
            return renew(owner)

        monkeypatch.setattr(storage._core, "renew", renew_and_tell)
        await created(other, "idle")
        await created(storage)
        with anyio.fail_after(30):
            await beaten.wait()


async def test_what_failed_waits_for_the_next_beat(storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a store that does not answer would be asked as often as the machine can, by every process."""
    claim = await created(storage)
    lease, run_errand = storage._lease, storage._core.run_errand
    lease._errands.get_nowait()  # that something is held: the thread would know it by now

    def fail(errand: Errand) -> None:
        raise StorageUnavailable("the store", "it does not answer")

    monkeypatch.setattr(storage._core, "run_errand", fail)
    wait = await anyio.to_thread.run_sync(lease.turn, claim)
    assert wait is not None
    assert wait > 0
    assert lease._errands.empty()  # which the thread waits at
    monkeypatch.setattr(storage._core, "run_errand", run_errand)
    assert await anyio.to_thread.run_sync(lease.turn, None) is None
    assert (await storage.load("saga-1")).summary.owner is None


async def test_an_errand_waits_no_longer_than_the_lease_may_go_without_renewal(tmp_path: Path) -> None:
    """A batch may wait for the locks of others, saga by saga, until the lease is long over."""
    async with SQLAlchemyStorage(tmp_path / "orders.db", lease=0.1) as storage:
        core, claim = storage._core, await created(storage)
        core.batches.pause()
        try:
            with anyio.fail_after(30), pytest.raises(StorageUnavailable):
                await anyio.to_thread.run_sync(core.run_errand, claim, abandon_on_cancel=True)
        finally:
            core.batches.resume()


def heartbeats() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "anysaga-heartbeat"}


async def test_closing_ends_the_heartbeat_and_the_thread_that_writes(tmp_path: Path) -> None:
    before = heartbeats()
    async with SQLAlchemyStorage(tmp_path / "orders.db") as storage:
        await created(storage)
        (thread,) = heartbeats() - before
        assert thread.daemon
        writer = storage._core.batches._thread
        assert writer is not None
    assert not thread.is_alive()
    assert not writer.is_alive()


async def test_a_cancelled_owner_gives_everything_back_as_he_leaves(tmp_path: Path, other: SQLAlchemyStorage) -> None:
    with anyio.CancelScope() as scope:
        async with SQLAlchemyStorage(tmp_path / "orders.db") as storage:
            await created(storage)
            scope.cancel()
    assert (await other.load("saga-1")).summary.owner is None


async def test_a_storage_that_nobody_uses_any_more_goes_with_its_thread(tmp_path: Path) -> None:
    before = heartbeats()
    storage = SQLAlchemyStorage(tmp_path / "orders.db")
    await created(storage)
    (thread,) = heartbeats() - before
    core = weakref.ref(storage._core)
    del storage
    with anyio.fail_after(60):
        while core() is not None:  # its threads let go of it some time after they have answered
            await anyio.to_thread.run_sync(gc.collect)
    thread.join(timeout=30)
    assert not thread.is_alive()


async def test_a_caller_that_is_torn_away_leaves_no_claim_behind(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TornAwayError(Exception):
        """Stands for a native cancellation, which no shield holds off."""

    submit = storage._core.submit

    async def submit_and_tear(job: Job) -> None:
        await submit(job)
        raise TornAwayError

    monkeypatch.setattr(storage._core, "submit", submit_and_tear)
    with pytest.raises(TornAwayError):
        await created(storage)
    storage._lease.beat()
    claim = await other.claim("saga-1")
    assert (claim.fence, claim.record.summary.claims) == (2, 1)


async def test_a_caller_that_is_torn_away_from_what_it_claims_leaves_no_claim_behind(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await other.release(await created(other))
    hop = storage._write

    async def hop_and_tear(func: Callable[[], object]) -> None:
        await hop(func)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "_write", hop_and_tear)
    with pytest.raises(KeyboardInterrupt):
        await storage.claim("saga-1")
    monkeypatch.undo()
    storage._lease.beat()
    assert (await other.claim("saga-1")).fence == 3


async def test_a_claim_that_comes_after_its_caller_left_is_given_back(
    storage: SQLAlchemyStorage, other: SQLAlchemyStorage
) -> None:
    basket = Basket()
    storage._lease.forsake(basket)
    claim = await created(storage)
    storage._lease.hold(storage._lease.owner, [claim], basket)
    storage._lease.beat()
    assert (await other.claim("saga-1")).fence == 2


async def test_a_claim_for_an_incarnation_that_died_meanwhile_is_lost(storage: SQLAlchemyStorage) -> None:
    claim: Claim = await created(storage)
    owner = storage._lease.owner
    storage._lease.bury(owner)
    late = Claim(claim.record, claim.fence, claim.now)
    storage._lease.hold(owner, [late], Basket())
    assert late.lost


async def test_a_claim_that_comes_while_the_store_closes_is_lost(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another thread, after what was held was counted: nobody keeps it alive, so nothing may be done for it."""
    await storage.release(await created(storage))
    core, basket = storage._core, Basket()
    held = core.lease.held

    def held_before_the_claim() -> list[Claim]:
        found = held()
        core.take(
            lambda connection, owner, now: core.operations.claim(connection, "saga-1", LIVE_STATES, owner, now), basket
        )
        return found

    monkeypatch.setattr(core.lease, "held", held_before_the_claim)
    await storage.aclose()
    (claim,) = basket.claims
    assert claim.lost
