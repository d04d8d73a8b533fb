"""DBOS: the same three steps as a workflow, each turn in a fresh database.

DBOS leaves SQLite's settings alone: a rollback journal and ``synchronous = FULL``. That survives a loss of power, as
ours does. The write-ahead log is no less safe with FULL, and faster; it is a property of the file, so a file that has
it gives DBOS the same durability as ours, and its better figures.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The name of a package that need not be installed: to the type checkers all of it is Any.
DBOS: Any = import_module("dbos").DBOS

ORDER = {"order_id": "order-17", "items": ["tea", "a pot", "two cups"], "total": 3150, "done": 0}
POLL = 0.005


def _work(order: dict[str, Any]) -> dict[str, Any]:
    return {**order, "done": order["done"] + 1}


first, second, third = (DBOS.step(name=f"step-{number}")(_work) for number in range(3))


@DBOS.workflow(name="three-steps")  # type: ignore[untyped-decorator]
def three_steps(order: dict[str, Any]) -> dict[str, Any]:
    """The same saga as ours; what a step returns is its context and its answer."""
    done: dict[str, Any] = third(second(first(order)))
    return done


def one_by_one(journal: str, times: int) -> float:
    """Seconds a workflow, called directly, one after the other; its fastest way."""
    with _in_fresh_file(journal) as address:
        return one_by_one_on_postgres(address, times)


def one_by_one_on_postgres(address: str, times: int) -> float:
    """The same in a PostgreSQL database, or any other that the address names."""
    with _launched(address):
        three_steps(ORDER)
        began = time.perf_counter()
        for _ in range(times):
            three_steps(ORDER)
        return (time.perf_counter() - began) / times


def at_once(journal: str, tasks: int, threads: int = 0) -> float:
    """Seconds a workflow, so many started at once in its pool of threads.

    Its other ways, tasks of asyncio and a queue, took up to a third longer. By default the pool has four threads more
    than the machine has cores. Fewer hinder each other less, but only so many workflows run at the same time.
    """
    with _in_fresh_file(journal) as address:
        return at_once_on_postgres(address, tasks, threads)


def at_once_on_postgres(address: str, tasks: int, threads: int = 0) -> float:
    """The same in a PostgreSQL database, or any other that the address names."""
    with _launched(address, **({"max_executor_threads": threads} if threads else {})):
        three_steps(ORDER)
        began = time.perf_counter()
        handles = [DBOS.start_workflow(three_steps, ORDER) for _ in range(tasks)]
        for handle in handles:
            handle.get_result(polling_interval_sec=POLL)
        return (time.perf_counter() - began) / tasks


@contextmanager
def _in_fresh_file(journal: str) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "dbos.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
        yield f"sqlite:///{file}"


@contextmanager
def _launched(address: str, **options: object) -> Iterator[None]:
    DBOS(config={"name": "benchmarks", "system_database_url": address, "log_level": "ERROR", **options})
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()
