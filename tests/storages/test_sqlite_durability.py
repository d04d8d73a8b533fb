"""What was acknowledged is there, for everybody and for good."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio

WRITER = """
import os, sys
import anyio
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write

async def main():
    async with SQLAlchemyStorage(sys.argv[1]) as storage:
        claim = await created(storage)
        for seq in range(2, 10_000):
            await storage.record(write(claim, entry(seq, EntryKind.DONE)))
            print(seq, flush=True)

anyio.run(main, backend=sys.argv[2])
"""


async def test_acknowledged_writes_survive_kill_9(tmp_path: Path, anyio_backend_name: str) -> None:
    file = tmp_path / "orders.db"
    acknowledged = _write_until_killed(file, anyio_backend_name)
    async with SQLAlchemyStorage(file) as storage:
        record = await storage.load("saga-1")
    assert record.summary.seq in (acknowledged[-1], acknowledged[-1] + 1)
    assert [each.seq for each in record.entries] == list(range(1, record.summary.seq + 1))


def _write_until_killed(file: Path, backend: str) -> list[int]:
    """The seqs that a child had acknowledged when it was killed."""
    command = [sys.executable, "-c", WRITER, str(file), backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(25)]
        child.kill()
        return acknowledged + [int(line) for line in child.stdout if line.endswith("\n")]


async def test_a_write_is_seen_by_others_when_record_returns(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    async with SQLAlchemyStorage(file) as storage:
        with closing(sqlite3.connect(file)) as reader:
            claim = await created(storage)
            assert _log(reader) == ["STARTED"]
            moment = await storage.record(write(claim, entry(2, EntryKind.DONE), wait=1.0))
            assert _log(reader) == ["STARTED", "DONE"]
            query = "SELECT seq, fence, updated_at, next_attempt_at FROM anysaga_sagas"
            assert reader.execute(query).fetchall() == [(2, 1, moment, moment + 1_000_000)]


def _log(reader: sqlite3.Connection) -> list[str]:
    return [kind for (kind,) in reader.execute("SELECT kind FROM anysaga_entries ORDER BY seq")]


@pytest.mark.parametrize(
    ("options", "synchronous"), [({}, 2), ({"durability": "full"}, 2), ({"durability": "normal"}, 1)]
)
async def test_journal_and_synchronous_are_what_durability_says(
    tmp_path: Path, options: dict[str, Any], synchronous: int
) -> None:
    async with SQLAlchemyStorage(tmp_path / "orders.db", busy_timeout=1.25, **options) as storage:
        for runner in (storage._core.writer, storage._core.reader):
            pragmas = runner.run(
                lambda connection: [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "busy_timeout")
                ]
            )
            assert pragmas == ["wal", synchronous, 1250]
