"""Writes that are torn away at random leave no lock behind, and no write lost or doubled."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from anysaga._records import EntryKind, Write
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["sqlite", "sqlite+aiosqlite"])]

SAGAS = 8
WRITES = 12
Run = Callable[[Callable[[], Awaitable[object]]], Awaitable[bool]]


async def test_scopes_cancelled_at_random(tmp_path: Path, kind: str) -> None:
    chance = random.Random(1)  # noqa: S311  # the same each time

    async def run(verb: Callable[[], Awaitable[object]]) -> bool:
        """Whether the verb ended before its scope was cancelled."""
        ended = False
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_later, group.cancel_scope, chance.randrange(60))
            await verb()
            ended = True
            group.cancel_scope.cancel()
        return ended

    await _stress(tmp_path, kind, run)


async def _cancel_later(scope: anyio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_cancelled_at_random(tmp_path: Path, kind: str) -> None:
    chance = random.Random(2)  # noqa: S311  # the same each time

    async def run(verb: Callable[[], Awaitable[object]]) -> bool:
        task = asyncio.ensure_future(verb())
        for _ in range(chance.randrange(60)):
            await anyio.lowlevel.checkpoint()
        task.cancel()
        await asyncio.wait([task])
        return not task.cancelled()

    await _stress(tmp_path, kind, run)


async def _stress(directory: Path, kind: str, run: Run) -> None:
    file = directory / "orders.db"
    acknowledged: dict[str, int] = {}
    async with SQLAlchemyStorage(f"{kind}:///{file}") as storage:

        async def drive(saga_id: str) -> None:
            claim = await created(storage, saga_id)
            for seq in range(2, 2 + WRITES):
                await _send(storage, write(claim, entry(seq, EntryKind.DONE, response=f'"{saga_id}-{seq}"')), run)
                acknowledged[saga_id] = seq

        async with anyio.create_task_group() as group:
            for number in range(SAGAS):
                group.start_soon(drive, f"saga-{number}")
        _is_unlocked(file)
        for saga_id, seq in acknowledged.items():
            record = await storage.load(saga_id)
            assert [each.response for each in record.entries[1:]] == [f'"{saga_id}-{n}"' for n in range(2, seq + 1)]
    assert acknowledged == {f"saga-{number}": 1 + WRITES for number in range(SAGAS)}


async def _send(storage: SQLAlchemyStorage, each: Write, run: Run) -> None:
    """As the engine does: after a cancellation the same write is sent again, and the second answer counts."""
    if not await run(lambda: storage.record(each)):
        await storage.record(each)


def _is_unlocked(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        rival.execute("ROLLBACK")
