"""Sagas whose rows were damaged in the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tours import Tour, TourSaga

from anysaga import (
    OperationRefused,
    Saga,
    SagaState,
    SQLAlchemyStorage,
    Step,
    abandon,
    current_step,
    recover,
    recover_saga,
    resolve,
)
from anysaga.events import EventRelay
from anysaga.events.publishers import DevnullPublisher

pytestmark = pytest.mark.anyio


class Tells(Step[Tour]):
    read_only = True

    async def act(self, tour: Tour) -> None:
        current_step().record(tour)


DAMAGE = {
    "a missing entry": "DELETE FROM anysaga_entries WHERE saga_id = 'bad' AND seq = 2",
    "an entry of no step": "UPDATE anysaga_entries SET path = '9' WHERE saga_id = 'bad' AND seq = 2",
    "an entry out of place": "UPDATE anysaga_entries SET kind = 'CHECKPOINT', path = '' WHERE saga_id = 'bad'",
    "no list of steps": "UPDATE anysaga_starts SET outline = '[' WHERE saga_id = 'bad'",
    "another list": "UPDATE anysaga_starts SET outline = '[1]' WHERE saga_id = 'bad'",
    "no state": "UPDATE anysaga_sagas SET state = 'WONDER' WHERE id = 'bad'",
}


def change(file: Path, sql: str) -> None:
    """Do to the file what nobody of ours would."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(sql)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_what_is_damaged_parks_that_saga_and_stops_no_other(tmp_path: Path, damage: str) -> None:
    """I12: it is neither guessed nor tried again for ever, and a person can close it."""
    async with SQLAlchemyStorage(tmp_path / "tours.db") as storage:
        for saga_id in ("bad", "good"):
            async with TourSaga(storage=storage).transaction(Tour(), saga_id=saga_id) as transaction:
                await anext(transaction)
                await transaction.suspend()
        change(tmp_path / "tours.db", damage)
        await recover([TourSaga], storage=storage)
        results = [await recover_saga(TourSaga, saga_id, storage=storage) for saga_id in ("bad", "good")]
        assert [result.state for result in results] == [SagaState.PARKED, SagaState.COMPLETED]
        assert results[0].reason
        with pytest.raises(OperationRefused):
            await resolve("bad", "nowhere", "done", storage=storage)
        assert await abandon("bad", storage=storage, reason="settled by phone") is SagaState.ABANDONED


@pytest.mark.parametrize("column", ["claims", "deadline", "seq"])
async def test_a_text_in_a_column_of_numbers_stops_no_other_saga(tmp_path: Path, column: str) -> None:
    """SQLite keeps anything in any column."""
    async with SQLAlchemyStorage(tmp_path / "tours.db") as storage:
        for saga_id in ("bad", "good"):
            async with TourSaga(storage=storage).transaction(Tour(), saga_id=saga_id) as transaction:
                await transaction.suspend()
        change(tmp_path / "tours.db", f"UPDATE anysaga_sagas SET {column} = 'many' WHERE id = 'bad'")  # noqa: S608 - from above
        await recover([TourSaga], storage=storage)
        assert (await storage.load("good")).summary.state is SagaState.COMPLETED


async def test_a_text_in_a_number_of_an_event_stops_no_other_event(tmp_path: Path) -> None:
    async with SQLAlchemyStorage(tmp_path / "tours.db") as storage:
        for saga_id in ("bad", "good"):
            await Saga[Tour](name="told", steps=[Tells], storage=storage).run(Tour(), saga_id=saga_id)
        change(
            tmp_path / "tours.db", "UPDATE anysaga_outbox SET attempts = 'many', lease = 'long' WHERE saga_id = 'bad'"
        )
        assert await EventRelay(storage, publisher=DevnullPublisher()).deliver_due() == 2
        assert (await storage.outbox_lag()).waiting == 0
