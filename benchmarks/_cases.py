"""The cases, each a function from nothing to rows of the table."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from anysaga import MemoryStorage, SQLAlchemyStorage
from anysaga.abc import Storage
from benchmarks._harness import BACKENDS, Row, each, in_loop, medians, ratio
from benchmarks._sagas import Order, saga_of

STEPS = 3
FEW, MANY = 10, 1000


def in_memory() -> Iterator[Row]:
    """A whole saga of three steps, nothing durable."""
    figures = medians([in_loop(backend, partial(_run_sagas, MemoryStorage, 500)) for backend in BACKENDS], rounds=9)
    for backend, own in zip(BACKENDS, figures, strict=True):
        yield Row("in memory, 3 steps", backend, statistics.median(own), "saga")


def sqlite_full() -> Iterator[Row]:
    """The same in a SQLite file with full durability, one at a time, beside as many bare commits."""
    with TemporaryDirectory() as folder:
        files = (Path(folder) / f"{number}.db" for number in count())
        subjects: list[Callable[[], float]] = [lambda: _bare_commits(next(files), 100)]
        subjects += [
            in_loop(backend, lambda: _run_sagas(lambda: SQLAlchemyStorage(next(files)), 100)) for backend in BACKENDS
        ]
        floor, *figures = medians(subjects, rounds=9)
    case = "SQLite FULL, 3 steps, one at a time"
    yield Row(case, "bare sqlite3, 4 commits", statistics.median(floor), "saga")
    for backend, own in zip(BACKENDS, figures, strict=True):
        yield Row(case, backend, statistics.median(own), "saga", ratio(own, floor), "bare", 2.5)


def long_sagas_in_memory() -> Iterator[Row]:
    """The cost of a step late in a long saga, beside one in a short saga."""
    yield from _long_sagas("in memory", MemoryStorage)


def long_sagas_in_sqlite() -> Iterator[Row]:
    """The same in a SQLite file."""
    with TemporaryDirectory() as folder:
        files = (Path(folder) / f"{number}.db" for number in count())
        yield from _long_sagas("SQLite FULL", lambda: SQLAlchemyStorage(next(files)))


def import_time() -> Iterator[Row]:
    """Importing anysaga where anyio and cattrs are imported already, from compiled files."""
    with TemporaryDirectory() as folder:
        subjects = [partial(_import_time, code, folder) for code in ("anyio, cattrs", "anyio, cattrs, anysaga")]
        base, whole = (min(figures) for figures in medians(subjects, rounds=15))
    cost = whole - base
    yield Row("import", "anysaga over anyio and cattrs", cost, "process", cost / 0.030, "30 ms", 1.0)


CASES = (in_memory, sqlite_full, long_sagas_in_memory, long_sagas_in_sqlite, import_time)


async def _run_sagas(make: Callable[[], Storage], times: int) -> float:
    async with make() as storage:
        saga = saga_of(STEPS, storage)
        return await each(times, lambda _: saga.run(Order()))


def _bare_commits(file: Path, times: int) -> float:
    """The least that any store can do: as many transactions as a saga of three steps has, of a row each."""
    text = "x" * 150
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE log (saga TEXT, seq INTEGER, said TEXT, PRIMARY KEY (saga, seq)) WITHOUT ROWID"
        )
        began = time.perf_counter()
        for number in range(times):
            for seq in range(STEPS + 1):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO log VALUES (?, ?, ?)", [f"saga-{number}", seq, text])
                connection.execute("COMMIT")
        return (time.perf_counter() - began) / times


def _long_sagas(where: str, make: Callable[[], Storage]) -> Iterator[Row]:
    for backend in BACKENDS:
        subjects = [in_loop(backend, partial(_last_steps, make, steps)) for steps in (FEW, MANY)]
        few, many = medians(subjects, rounds=7)
        case = f"a step, {where}, {backend}"
        yield Row(case, f"of {FEW}", statistics.median(few), "step")
        yield Row(case, f"of {MANY:,}", statistics.median(many), "step", ratio(many, few), f"of {FEW}", 1.2)


async def _last_steps(make: Callable[[], Storage], steps: int) -> float:
    """The median cost of the last steps but the very last, as many of them for a short saga as for a long one."""
    costs: list[float] = []
    async with make() as storage:
        saga = saga_of(steps, storage)
        for _ in range(30 if steps == FEW else 1):
            async with saga.transaction(Order()) as transaction:
                moments = [time.perf_counter() async for _ in transaction]
            gaps = [later - earlier for earlier, later in pairwise(moments[:-1])]
            costs += gaps[-8:] if steps == FEW else gaps[-240:]
    return statistics.median(costs)


def _import_time(names: str, cache: str) -> float:
    code = f"import time; began = time.perf_counter(); import {names}; print(time.perf_counter() - began)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)  # noqa: S603
    return float(done.stdout)
