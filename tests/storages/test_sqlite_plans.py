"""A store full of finished sagas is as fast as an empty one: the queries go by indexes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from anysaga._records import SagaState
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created

pytestmark = pytest.mark.anyio

FINISHED = 100_000


@pytest.fixture(scope="module")
def full_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 100,000 finished sagas."""
    file = tmp_path_factory.mktemp("plans") / "orders.db"

    async def make() -> None:
        async with SQLAlchemyStorage(file) as storage:
            await storage.find()

    anyio.run(make)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "INSERT INTO anysaga_sagas (id, name, version, state, live, fence, seq, claims, created_at, updated_at,"
            " next_attempt_at, ended_at) VALUES (?, 'order', 1, 'COMPLETED', 0, 1, 2, 0, ?, ?, ?, ?)",
            ((f"done-{n:06}", n, n, n, n) for n in range(FINISHED)),
        )
    return file


class Recorder:
    """Remembers the reading statements of an engine, and explains them."""

    def __init__(self, file: Path) -> None:
        self.engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
        self._seen: list[str] = []
        event.listen(self.engine, "connect", self._connected)

    def _connected(self, driver: sqlite3.Connection, _record: object) -> None:
        driver.set_trace_callback(self._executed)

    def _executed(self, statement: str) -> None:
        if "anysaga_sagas" in statement and not statement.startswith(("EXPLAIN", "INSERT")):
            self._seen.append(statement)

    def plans(self) -> list[str]:
        """The plans of what was executed since the last call."""
        seen, self._seen = self._seen, []
        with self.engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            return [
                " | ".join(row[-1] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}")) for statement in seen
            ]


@pytest.fixture
def recorder(full_file: Path) -> Iterator[Recorder]:
    recorder = Recorder(full_file)
    yield recorder
    recorder.engine.dispose()


async def test_every_query_goes_by_an_index(recorder: Recorder) -> None:
    async with SQLAlchemyStorage(recorder.engine) as storage:
        claim = await created(storage, saga_id := f"live-{uuid4()}")
        recorder.plans()

        async def plans_of(*verbs: object) -> list[str]:
            for verb in verbs:
                await verb  # type: ignore[misc]
            plans = recorder.plans()
            assert plans
            for plan in plans:
                assert "SCAN anysaga_sagas" not in plan.replace("SCAN anysaga_sagas USING INDEX", "")
                assert "TEMP B-TREE" not in plan
            return plans

        due = await plans_of(storage.release(claim), storage.claim_due(["order", "refund"], 10))
        assert any("anysaga_sagas_due (live=? AND next_attempt_at<?)" in plan for plan in due)
        await plans_of(storage.find(), storage.find(after="done-5"))
        await plans_of(storage.find(states=[SagaState.PARKED]), storage.find(states=list(SagaState), after="done-7"))
        await plans_of(storage.find(names=["order"]), storage.find(names=["order", "x"], states=[SagaState.RUNNING]))
        (ended,) = await plans_of(storage.purge(before=0, states=[SagaState.COMPLETED]))
        assert "anysaga_sagas_ended (state=? AND ended_at<?)" in ended
        await plans_of(storage.load(saga_id))
