"""The least that any store can do: the same commits by bare `sqlite3`, the same rows by SQLAlchemy Core."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import sqlalchemy as sa
from attrs import frozen

from anysaga import SQLAlchemyStorage
from anysaga._ids import new_id
from benchmarks._sagas import STEPS, Order, saga_of

Rows = list[dict[str, Any]]
PREFIX = "anysaga_"


def bare_commits(file: Path, times: int) -> float:
    """Seconds for as many transactions as a saga of three steps has, each of one small row, in this thread."""
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


def same_rows(file: Path, sagas: int, times: int) -> float:
    """Seconds a saga by ``executemany`` of the rows that ours writes, so many sagas in each transaction.

    The tables are ours, the rows those of a saga that ran. They lie ready before the clock starts.
    """
    log = _Log.of_a_saga(file)
    spent = 0.0
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.StaticPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("PRAGMA synchronous = FULL")
            connection.commit()
            for _ in range(times):
                commits = log.copies([new_id() for _ in range(sagas)])
                began = time.perf_counter()
                for statements in commits:
                    for statement, rows in statements:
                        connection.execute(statement, rows)
                    connection.commit()
                spent += time.perf_counter() - began
    finally:
        engine.dispose()
    return spent / (sagas * times)


Statements = list[tuple[sa.Executable, Rows]]

_RUNNING = {"state": "RUNNING", "live": 1, "ended_at": None}
_CHANGING = ("seq", "state", "live", "owner", "updated_at", "next_attempt_at", "claims", "ended_at")


@frozen
class _Log:
    """The rows of one saga of ours, and the tables that they are from."""

    sagas: sa.Table
    starts: sa.Table
    entries: sa.Table
    saga: dict[str, Any]
    start: dict[str, Any]
    commits: Sequence[Rows]

    @classmethod
    def of_a_saga(cls, file: Path) -> _Log:
        """Have anysaga make the tables and run one saga, and read what it wrote."""
        anyio.run(_run_one, file)
        engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
        metadata = sa.MetaData()
        with engine.connect() as connection:
            metadata.reflect(connection)
            sagas, starts, entries = (metadata.tables[PREFIX + name] for name in ("sagas", "starts", "entries"))
            log = _all(connection, sa.select(entries).order_by(entries.c.seq))
            (saga,), (start,) = _all(connection, sa.select(sagas)), _all(connection, sa.select(starts))
        commits = [list(rows) for _, rows in groupby(log, key=lambda row: int(row["at"]))]
        return cls(sagas, starts, entries, saga, start, commits)

    def copies(self, ids: Sequence[str]) -> list[Statements]:
        """The transactions of so many such sagas that run at once."""
        first, *others = self.commits
        began: Statements = [
            (sa.insert(self.sagas), [{**self.saga, **_RUNNING, "id": each} for each in ids]),
            (sa.insert(self.starts), [{**self.start, "saga_id": each} for each in ids]),
            self._entries(first, ids),
        ]
        return [began, *([self._advances(rows, ids), self._entries(rows, ids)] for rows in others)]

    def _entries(self, rows: Rows, ids: Sequence[str]) -> tuple[sa.Executable, Rows]:
        return sa.insert(self.entries), [{**row, "saga_id": each} for each in ids for row in rows]

    def _advances(self, rows: Rows, ids: Sequence[str]) -> tuple[sa.Executable, Rows]:
        statement = (
            sa.update(self.sagas)
            .where(self.sagas.c.id == sa.bindparam("b_id"))
            .values({name: sa.bindparam(f"b_{name}") for name in _CHANGING})
        )
        running = {} if rows is self.commits[-1] else _RUNNING
        row = {**self.saga, **running, "seq": rows[-1]["seq"]}
        values = {f"b_{name}": row[name] for name in _CHANGING}
        return statement, [{**values, "b_id": each} for each in ids]


async def _run_one(file: Path) -> None:
    async with SQLAlchemyStorage(file) as storage:
        await saga_of(STEPS, storage).run(Order())


def _all(connection: sa.Connection, query: sa.Select[Any]) -> Rows:
    return [dict(row) for row in connection.execute(query).mappings()]
