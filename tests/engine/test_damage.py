"""Sagas whose rows were damaged in the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tours import Tour, TourSaga

from anysaga import OperationRefused, SagaState, SQLAlchemyStorage, abandon, recover, recover_saga, resolve

pytestmark = pytest.mark.anyio

DAMAGE = {
    "a missing entry": "DELETE FROM anysaga_entries WHERE saga_id = 'bad' AND seq = 2",
    "an entry of no step": "UPDATE anysaga_entries SET path = '9' WHERE saga_id = 'bad' AND seq = 2",
    "an entry out of place": "UPDATE anysaga_entries SET kind = 'CHECKPOINT', path = '' WHERE saga_id = 'bad'",
    "no list of steps": "UPDATE anysaga_starts SET outline = '[' WHERE saga_id = 'bad'",
    "no state": "UPDATE anysaga_sagas SET state = 'WONDER' WHERE id = 'bad'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_what_is_damaged_parks_that_saga_and_stops_no_other(tmp_path: Path, damage: str) -> None:
    """I12: it is neither guessed nor tried again for ever, and a person can close it."""
    async with SQLAlchemyStorage(tmp_path / "tours.db") as storage:
        for saga_id in ("bad", "good"):
            async with TourSaga(storage=storage).transaction(Tour(), saga_id=saga_id) as transaction:
                await anext(transaction)
                await transaction.suspend()
        with closing(sqlite3.connect(tmp_path / "tours.db")) as connection, connection:
            connection.execute(damage)
        await recover([TourSaga], storage=storage)
        results = [await recover_saga(TourSaga, saga_id, storage=storage) for saga_id in ("bad", "good")]
        assert [result.state for result in results] == [SagaState.PARKED, SagaState.COMPLETED]
        assert results[0].reason
        with pytest.raises(OperationRefused):
            await resolve("bad", "nowhere", "done", storage=storage)
        assert await abandon("bad", storage=storage, reason="settled by phone") is SagaState.ABANDONED
