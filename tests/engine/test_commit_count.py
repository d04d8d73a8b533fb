"""How many commits a saga costs, and what is in each."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tours import DONE, FixedTour, Hotel, Tour, TourSaga

from anysaga import Saga, SagaState, SQLAlchemyStorage, Step

pytestmark = pytest.mark.anyio


def saga_of(steps: int) -> type[Saga[Tour]]:
    names = [f"step {number}" for number in range(steps)]
    made = [type(name, (Hotel,), {"name": name}) for name in names]
    return type("Long", (TourSaga,), {"steps": made})


@pytest.mark.parametrize("steps", [1, 3, 10])
async def test_a_saga_of_n_steps_costs_n_plus_one_commits(steps: int, tmp_path: Path, commits: list[str]) -> None:
    """The create with the first intent, and one for each DONE."""
    DONE.set([])
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        await storage.find()
        commits.clear()
        await saga_of(steps)(storage=storage).run(Tour())
        assert len([sql for sql in commits if sql]) == steps + 1


async def test_a_pivot_costs_one_commit_more(tmp_path: Path, commits: list[str]) -> None:
    """Its intent is committed alone, just before it acts."""
    DONE.set([])
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        await storage.find()
        commits.clear()
        await FixedTour(storage=storage).run(Tour())
        assert len(commits) == 3 + 1 + 1


async def test_the_last_done_and_the_end_are_one_commit(tmp_path: Path) -> None:
    """They have the same moment."""
    DONE.set([])
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        result = await TourSaga(storage=storage).run(Tour())
        done, completed = (await storage.load(result.saga_id)).entries[-2:]
        assert (done.kind, completed.kind) == ("DONE", "COMPLETED")
        assert done.at == completed.at


async def test_no_transaction_is_open_while_a_step_runs(tmp_path: Path) -> None:
    """Another connection can take the write lock at once."""
    DONE.set([])
    file = tmp_path / "sagas.db"

    class Locking(Step[Tour]):
        read_only = True

        async def act(self, tour: Tour) -> None:
            rival = sqlite3.connect(file, timeout=0, isolation_level=None)
            rival.execute("BEGIN IMMEDIATE")
            rival.execute("ROLLBACK")
            rival.close()

    async with SQLAlchemyStorage(file) as storage:
        result = await Saga[Tour](name="locking", steps=[Locking], storage=storage).run(Tour())
        assert result.state is SagaState.COMPLETED
