"""Worker processes on a PostgreSQL server, and tables that are filled with statements of their own."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from typing import Any

import anyio
import sqlalchemy as sa

from anysaga import SagaWorker, SQLAlchemyStorage
from benchmarks._harness import TASKS
from benchmarks._sagas import STEPS, Order, saga_of

_LATER = 2**60


def expire_leases(url: str) -> None:
    """Make the owners of sagas ones that have been silent for too long."""
    _execute(url, "UPDATE anysaga_owners SET expires_at = 0")


async def fill_with_finished(url: str, sagas: int) -> float:
    """Give the tables so many finished sagas: one that ran, and copies of all its rows under other ids."""
    async with SQLAlchemyStorage(url) as storage:
        await saga_of(STEPS, storage).run(Order())
    _execute(
        url,
        f"CREATE TEMP TABLE copies AS SELECT gen_random_uuid()::text AS copy FROM generate_series(2, {sagas})",  # noqa: S608 - as above
        *(_copying(url, table, key) for table, key in _KEYS.items()),
        "ANALYZE anysaga_sagas, anysaga_starts, anysaga_entries",
    )
    return 0.0


def finished_by(workers: int, url: str, sagas: int) -> float:
    """Seconds a saga for so many submitted ones, with so many worker processes that are ready before the first."""
    anyio.run(_submit, url, sagas)
    _execute(url, f"UPDATE anysaga_sagas SET next_attempt_at = {_LATER}")  # noqa: S608 - a number of our own
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(workers + 1)
    processes = [spawn.Process(target=_work, args=(url, ready), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    _execute(url, "UPDATE anysaga_sagas SET next_attempt_at = 0")
    began = time.perf_counter()
    while _live(url):
        time.sleep(0.01)
    spent = time.perf_counter() - began
    for process in processes:
        process.terminate()
        process.join()
    return spent / sagas


_KEYS = {"anysaga_sagas": "id", "anysaga_starts": "saga_id", "anysaga_entries": "saga_id"}


def _work(url: str, ready: Barrier) -> None:
    async def main() -> None:
        async with SQLAlchemyStorage(url) as storage:
            await storage.find()
            worker = SagaWorker([saga_of(STEPS, storage)], storage=storage, concurrency=TASKS, poll=0.01)
            await anyio.to_thread.run_sync(ready.wait)
            await worker.run()

    anyio.run(main)


async def _submit(url: str, sagas: int) -> None:
    async with SQLAlchemyStorage(url) as storage, anyio.create_task_group() as group:
        saga = saga_of(STEPS, storage)

        async def submit() -> None:
            for _ in range(sagas // 20):
                await saga.submit(Order())

        for _ in range(20):
            group.start_soon(submit)


def _live(url: str) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return bool(connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM anysaga_sagas WHERE live = 1)")))


def _copying(url: str, table: str, key: str) -> str:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    columns = [column["name"] for column in sa.inspect(engine).get_columns(table)]
    values = ", ".join("copies.copy" if column == key else f"{table}.{column}" for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM copies CROSS JOIN {table}"  # noqa: S608


def _execute(url: str, *statements: str) -> None:
    engine: Any = sa.create_engine(url, poolclass=sa.NullPool)
    with closing(engine.connect()) as connection, connection.begin():
        for statement in statements:
            connection.execute(sa.text(statement))
