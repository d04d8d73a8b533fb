"""Crowds of sagas: ten thousand in flight, a process that dies with them, and a hundred thousand that are over."""

from __future__ import annotations

import gc
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio

from anysaga import MemoryStorage, Saga, SagaState, SQLAlchemyStorage, recover
from anysaga.abc import Storage
from benchmarks._harness import TASKS, at_once
from benchmarks._processes import Tell, resident
from benchmarks._sagas import STEPS, Gate, Order, Work, saga_of

_NAME = f"of-{STEPS}"
_CALLS = 10


def in_flight(tell: Tell, backend: str, file: str, sagas: int) -> None:
    """Tell how many KiB each of so many sagas takes that wait in their first step; then die with them.

    Without a file they are in memory.
    """

    async def main() -> None:
        async with SQLAlchemyStorage(file) if file else MemoryStorage() as storage:
            gate = await _gate(storage, sagas)
            saga = Saga[Order](name=_NAME, steps=[gate, *_steps_after_the_first()], storage=storage)
            await _fill(tell, gate, sagas, lambda number: saga.run(Order(), saga_id=f"saga-{number}"))

    anyio.run(main, backend=backend)


def waiting_tasks(tell: Tell, backend: str, tasks: int) -> None:
    """The same for bare tasks that wait: what the loop itself takes."""

    async def main() -> None:
        gate = Gate("alone", tasks)
        await _fill(tell, gate, tasks, lambda _: gate.act(Order()))

    anyio.run(main, backend=backend)


def recovering(tell: Tell, backend: str, file: str, sagas: int) -> None:
    """Tell seconds a saga, and KiB by which the process grows for each, while so many interrupted ones are finished.

    A share of them at each call of `recover`; the growth is that after the second one, when all is warm.
    """

    async def main() -> None:
        async with SQLAlchemyStorage(file) as storage:
            sizes: list[float] = []
            recovered = 0
            began = time.perf_counter()
            for _ in range(_CALLS):
                results = await recover(
                    [saga_of(STEPS, storage)], storage=storage, limit=sagas // _CALLS, concurrency=TASKS
                )
                recovered += sum(result.state is SagaState.COMPLETED for result in results)
                sizes.append(resident())
            cost = (time.perf_counter() - began) / sagas
        if recovered != sagas:
            raise RuntimeError(f"{recovered} of {sagas} sagas were recovered")
        tell([cost, (sizes[-1] - sizes[1]) / (sagas * (_CALLS - 2) / _CALLS)])

    anyio.run(main, backend=backend)


def fresh(tell: Tell, backend: str, file: str, sagas: int) -> None:
    """Tell seconds a saga for so many new ones, as many at once as are recovered at once."""

    async def main() -> None:
        async with SQLAlchemyStorage(file) as storage:
            saga = saga_of(STEPS, storage)
            tell([await at_once(TASKS, sagas // TASKS, lambda: saga.run(Order()))])

    anyio.run(main, backend=backend)


def expire_leases(file: Path) -> None:
    """Make the owners of a file's sagas ones that have been silent for too long."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE anysaga_owners SET expires_at = 0")


async def fill_with_finished(file: Path, sagas: int) -> None:
    """Give a file so many finished sagas: one that ran, and copies of all its rows under other ids."""
    async with SQLAlchemyStorage(file) as storage:
        await saga_of(STEPS, storage).run(Order())
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TEMP TABLE copies (id TEXT PRIMARY KEY)")
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (VALUES (2) UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
            "INSERT INTO copies SELECT lower(hex(randomblob(16))) FROM numbers WHERE n <= ?",
            [sagas, sagas],
        )
        for table, key in (("anysaga_sagas", "id"), ("anysaga_starts", "saga_id"), ("anysaga_entries", "saga_id")):
            connection.execute(_copying(connection, table, key))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (filled,) = connection.execute("SELECT count(*) FROM anysaga_sagas WHERE state = 'COMPLETED'").fetchone()
    if filled != sagas:
        raise RuntimeError(f"the file has {filled} finished sagas, and should have {sagas}")


def _copying(connection: sqlite3.Connection, table: str, key: str) -> str:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join("copies.id" if column == key else f"{table}.{column}" for column in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608  # names of our own tables
        f"SELECT {values} FROM temp.copies CROSS JOIN {table} ORDER BY copies.id"
    )


def _steps_after_the_first() -> list[Work]:
    return [Work(f"step-{number}") for number in range(1, STEPS)]


async def _gate(storage: Storage, sagas: int) -> Gate:
    await saga_of(STEPS, storage).run(Order())  # what is made once is no saga's share
    return Gate("step-0", sagas)


async def _fill(tell: Tell, gate: Gate, tasks: int, work: Callable[[int], Awaitable[object]]) -> None:
    async def task(number: int) -> None:
        await work(number)

    gc.collect()
    before = resident()
    async with anyio.create_task_group() as group:
        for number in range(tasks):
            group.start_soon(task, number)
        await gate.crowded.wait()
        gc.collect()
        tell([(resident() - before) / tasks])
