"""How many commits a saga costs, what is in each of them, and what is durable when a user's code runs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from journeys import Journey, Leg, PlainLeg, ProbedLeg, WatchedStorage, raises, saga_of

from anysaga import SagaState, SQLAlchemyStorage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("steps", [1, 3, 10])
async def test_a_saga_of_n_steps_costs_n_plus_one_commits(
    steps: int, tmp_path: Path, commits: list[str], did: list[str]
) -> None:
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        saga = saga_of(storage, *(Leg(f"leg {number}", did) for number in range(steps)))
        await saga.run(Journey())
        commits.clear()
        await saga.run(Journey())
        assert len(commits) == steps + 1
    assert len(did) == 2 * steps


@pytest.mark.parametrize("steps", [1, 3, 10])
async def test_watching_step_by_step_costs_no_more_commits_than_running(
    steps: int, tmp_path: Path, commits: list[str], did: list[str]
) -> None:
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        saga = saga_of(storage, *(Leg(f"leg {number}", did) for number in range(steps)))
        await saga.run(Journey())
        commits.clear()
        async with saga.transaction(Journey()) as transaction:
            seen = [step.step_name async for step in transaction]
        assert len(seen) == steps
        assert len(commits) == steps + 1


async def test_done_of_a_step_and_started_of_the_next_are_one_commit_and_so_are_the_last_done_and_the_end(
    did: list[str],
) -> None:
    storage = WatchedStorage()
    await saga_of(storage, Leg("a", did), Leg("b", did)).run(Journey())
    assert storage.commits == [["STARTED"], ["DONE", "STARTED"], ["DONE", "COMPLETED"]]


async def test_the_intent_of_a_pivot_has_a_commit_of_its_own(did: list[str]) -> None:
    storage = WatchedStorage()
    await saga_of(storage, Leg("a", did), Leg("b", did, pivot=True)).run(Journey())
    assert storage.commits == [["STARTED"], ["DONE"], ["STARTED"], ["DONE", "COMPLETED"]]


async def test_giving_a_saga_back_costs_one_commit(tmp_path: Path, commits: list[str], did: list[str]) -> None:
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey()) as transaction:
            await anext(transaction)
            commits.clear()
            await transaction.suspend()
        assert len(commits) == 1


async def test_a_pivot_is_not_intended_while_the_caller_looks_at_the_step_before_it(did: list[str]) -> None:
    """If his process dies then, no person has to say what became of a pivot that was never called."""
    storage = WatchedStorage()
    async with saga_of(storage, Leg("a", did), Leg("b", did, pivot=True)).transaction(Journey()) as transaction:
        await anext(transaction)
        assert storage.commits == [["STARTED"], ["DONE"]]
        await transaction.suspend()


async def test_a_pivot_at_the_start_is_not_intended_before_the_saga_is_there(did: list[str]) -> None:
    storage = WatchedStorage()
    await saga_of(storage, Leg("a", did, pivot=True)).run(Journey())
    assert storage.commits == [[], ["STARTED"], ["DONE", "COMPLETED"]]


async def test_going_back_is_durable_with_the_outcome_that_caused_it_and_each_undo_has_intent_and_outcome(
    did: list[str],
) -> None:
    storage = WatchedStorage()
    with pytest.raises(ConnectionError):
        await saga_of(storage, Leg("a", did), Leg("b", did, act=raises(ConnectionError()))).run(Journey())
    assert storage.commits[2:] == [
        ["UNKNOWN", "BACK", "UNDO_STARTED"],
        ["UNDONE", "UNDO_STARTED"],
        ["UNDONE", "COMPENSATED"],
    ]


async def test_compensating_is_durable_before_the_first_undo_as_another_connection_sees_it(
    tmp_path: Path, did: list[str]
) -> None:
    file = tmp_path / "sagas.db"
    seen: list[str] = []

    async def look(journey: Journey) -> None:
        with sqlite3.connect(file) as other:
            seen.extend(row[0] for row in other.execute("SELECT state FROM anysaga_sagas"))
        other.close()

    async with SQLAlchemyStorage(file) as storage:
        saga = saga_of(storage, Leg("a", did, act=look, undo=look), Leg("b", did, act=raises(ConnectionError())))
        with pytest.raises(ConnectionError):
            await saga.run(Journey())
    assert seen == [SagaState.RUNNING, SagaState.COMPENSATING]


async def test_no_transaction_is_open_while_an_act_an_undo_or_a_probe_runs(tmp_path: Path, did: list[str]) -> None:
    """Another connection can take the only write lock of the file."""
    file = tmp_path / "sagas.db"
    locked: list[str] = []

    def lock(where: str) -> None:
        rival = sqlite3.connect(file, timeout=30, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        rival.execute("ROLLBACK")
        rival.close()
        locked.append(where)

    async def in_act(journey: Journey) -> None:
        lock("act")

    async def in_undo(journey: Journey) -> None:
        lock("undo")

    first = Leg("a", did, act=in_act, undo=in_undo)
    second = PlainLeg("b", did, act=lambda journey: lock("act in thread"), undo=lambda journey: lock("undo in thread"))
    last = ProbedLeg("c", did, act=raises(ConnectionError()), answer=lambda: lock("probe"))
    async with SQLAlchemyStorage(file) as storage:
        with pytest.raises(ConnectionError):
            await saga_of(storage, first, second, last).run(Journey())
    assert locked == ["act", "act in thread", "probe", "undo in thread", "undo"]
