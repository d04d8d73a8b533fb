"""A PostgreSQL full of finished sagas is as fast as an empty one: no query reads a table from end to end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest
import sqlalchemy as sa
from server_stores import Server

from anysaga._records import EntryKind, SagaState
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio

FINISHED = 20_000
FINISHED_ROWS = [
    (
        "sagas",
        "id, name, version, state, live, fence, seq, claims, created_at, updated_at, next_attempt_at, ended_at",
        "'done-' || n, 'order', 1, 'COMPLETED', 0, 1, 2, 0, n, n, n, n",
    ),
    ("starts", "saga_id, outline, digest, context", "'done-' || n, '[]', '', '{}'"),
    ("entries", "saga_id, seq, kind, path, attempt, fence, at", "'done-' || n, 1, 'COMPLETED', '', 0, 1, n"),
]


@pytest.fixture
def full_server(server_of: Callable[[str], Server]) -> Server:
    """A server with 20,000 finished sagas."""
    server = server_of("psycopg")
    server.create()
    server.empty()
    prefix = server.prefix
    with server.engine.begin() as connection:
        for table, columns, values in FINISHED_ROWS:
            rows = f"SELECT {values} FROM generate_series(1, {FINISHED}) AS n"  # noqa: S608 - the test's own
            connection.exec_driver_sql(f"INSERT INTO {prefix}{table} ({columns}) {rows}")
            connection.exec_driver_sql(f"ANALYZE {prefix}{table}")
    return server


def _scans(server: Server) -> dict[str, tuple[int, int]]:
    """How often each table was read from end to end, and by an index."""
    query = sa.text(
        "SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname IN (:sagas, :starts, :entries)"
    )
    names = {name: f"{server.prefix}{name}" for name in ("sagas", "starts", "entries")}
    with server.engine.connect() as connection:
        return {name: (seq, idx) for name, seq, idx in connection.execute(query, names)}


async def test_no_verb_reads_a_table_from_end_to_end(full_server: Server) -> None:
    before = await _settled(full_server)
    async with full_server.twin() as storage:
        for number in range(8):  # often enough for plans that serve any values
            claim = await created(storage, f"live-{number}")
            await storage.record(write(claim, entry(2, EntryKind.DONE)))
            await storage.release(claim)
            (claim,) = await storage.claim_due(["order", "refund"], 10)
            await storage.load(f"live-{number}")
            await storage.release(claim, wait=60.0)
            await storage.release(await storage.claim(f"live-{number}"), wait=60.0)
            await storage.find(states=[SagaState.PARKED])
            await storage.find(names=["order"], states=[SagaState.RUNNING])
            await storage.purge(before=0, states=[SagaState.COMPLETED])
    after = await _settled(full_server, beyond=before)
    assert {name: scans[0] for name, scans in after.items()} == {name: scans[0] for name, scans in before.items()}


async def test_plans_that_were_made_for_empty_tables_serve_full_ones(server_of: Callable[[str], Server]) -> None:
    server = server_of("psycopg")
    server.create()
    server.empty()
    before = await _settled(server)
    async with server.twin() as storage:
        for number in range(12):  # often enough for plans that are kept
            claim = await created(storage, f"live-{number}")
            await storage.record(write(claim, entry(2, EntryKind.DONE)))
            await storage.load(f"live-{number}")
    after = await _settled(server, beyond=before)
    assert {name: scans[0] for name, scans in after.items()} == {name: scans[0] for name, scans in before.items()}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_the_server_compiles_no_query(server_of: Callable[[str], Server], driver: str) -> None:
    """Compiling one takes a thousand times as long as running it, and each claim of due sagas would be compiled."""
    async with server_of(driver).twin() as storage:
        await storage.find()
        for runner in (storage._core.writer, storage._core.reader):
            assert await runner.hop(partial(runner.run, _is_jit_on)) is False


def _is_jit_on(connection: sa.Connection) -> bool:
    return connection.exec_driver_sql("SHOW jit").scalar() == "on"


async def _settled(server: Server, *, beyond: dict[str, tuple[int, int]] | None = None) -> dict[str, tuple[int, int]]:
    """The counts when they change no more: each connection tells its own when it ends, some time later."""
    with anyio.fail_after(30):
        seen = _scans(server)
        while True:
            await anyio.sleep(0.2)
            counts, seen = seen, _scans(server)
            told = beyond is None or all(seen[name][1] > beyond[name][1] for name in seen)
            if told and counts == seen:
                return seen
