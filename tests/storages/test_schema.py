"""Tables of earlier versions: opened, brought forward in place, or refused with what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from attrs import define
from server_stores import DRIVERS, Server, servers

from anysaga import Saga, SagaState, SQLAlchemyStorage, Step, StorageRefused, recover
from anysaga.abc import Entry, EntryKind, StoredEvent, Write
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._schema import MIGRATIONS, bring_forward
from anysaga.storages.sql._tables import SCHEMA_VERSION, Tables
from anysaga.storages.sql._verbs import _made
from anysaga.storages.sql._watch import watch

pytestmark = pytest.mark.anyio
WRITTEN_BEFORE = Path(__file__).parent / "written_before"
OLDER = range(1, SCHEMA_VERSION)


@define
class Order:
    number: str
    reserved: bool = False
    paid: bool = False


class Reserve(Step[Order]):
    async def act(self, order: Order) -> None:
        order.reserved = True

    async def compensate(self, order: Order) -> None:
        order.reserved = False


class Pay(Step[Order]):
    async def act(self, order: Order) -> None:
        order.paid = True

    async def compensate(self, order: Order) -> None:
        order.paid = False


class OrderSaga(Saga[Order]):
    name = "order"
    steps = [Reserve, Pay]


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a SQLite file as an earlier version of anysaga left it: one saga completed, one begun, one submitted."""
    path = tmp_path / "older.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((WRITTEN_BEFORE / f"schema_{request.param}.sql").read_text())
        connection.execute("PRAGMA journal_mode=WAL")
    return path


def test_every_earlier_version_has_a_way_forward_and_a_file_to_test_it() -> None:
    assert sorted(MIGRATIONS) == list(OLDER)
    assert sorted(path.name for path in WRITTEN_BEFORE.iterdir()) == [f"schema_{number}.sql" for number in OLDER]


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
async def test_sagas_of_an_earlier_version_are_finished_by_this_one(older: Path, driver: str) -> None:
    async with SQLAlchemyStorage(f"{driver}:///{older}") as storage:
        assert (await storage.load("order-1")).summary.state is SagaState.COMPLETED
        results = await recover([OrderSaga], storage=storage)
        assert {result.saga_id: result.state for result in results} == {
            "order-2": SagaState.COMPLETED,
            "order-3": SagaState.COMPLETED,
        }
        done = await OrderSaga(storage=storage).run(None, saga_id="order-2")
    assert done.context == Order("2", reserved=True, paid=True)


async def test_tables_brought_forward_are_those_that_would_be_made_anew(older: Path, tmp_path: Path) -> None:
    for path in (older, tmp_path / "new.db"):
        async with SQLAlchemyStorage(path):
            pass
    assert _definitions(older) == _definitions(tmp_path / "new.db")


async def test_without_leave_to_change_tables_an_earlier_version_says_what_to_do_and_is_left_alone(older: Path) -> None:
    before = _definitions(older)
    with pytest.raises(StorageRefused, match="open it once with create_schema=True"):
        await SQLAlchemyStorage(older, create_schema=False).open()
    assert _definitions(older) == before


async def test_tables_that_a_later_version_brought_forward_meanwhile_stay_its_own(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be said to be of this version, and both would write to them."""

    def come_late(connection: sa.Connection, database: Database, tables: Tables) -> None:
        connection.execute(sa.update(tables.meta).values(value=SCHEMA_VERSION + 1))
        bring_forward(connection, database, tables)

    monkeypatch.setattr("anysaga.storages.sql._core.bring_forward", come_late)
    with pytest.raises(StorageRefused, match=f"of schema version {SCHEMA_VERSION + 1}"):
        await SQLAlchemyStorage(older).open()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_with_tables_of_version_1_is_brought_forward(
    driver: str, require_service: Callable[[str], str]
) -> None:
    server = servers(require_service, "schema")(driver)
    try:
        async with server.new_storage() as storage:
            await OrderSaga(storage=storage).run(Order("1"), saga_id="order-1")
        _make_version_1(server)
        async with server.twin() as storage:
            assert (await storage.load("order-1")).summary.state is SagaState.COMPLETED
            await OrderSaga(storage=storage).submit(Order("2"), saga_id="order-2")
            claim = await storage.claim("order-2")
            event = StoredEvent("e", "paid", "{}", "order", "Pay", ("broker",))
            entry = Entry(EntryKind.NOTE, seq=1, fence=claim.fence, events=(event,))
            await storage.record(Write("order-2", claim.fence, (entry,), SagaState.RUNNING))
            assert len(await storage.lease_events("broker", 10, 60)) == 1
    finally:
        server.drop()


async def test_tables_that_mysql_gets_later_tell_keys_apart_as_the_others_do(
    require_service: Callable[[str], str],
) -> None:
    server = servers(require_service, "collation")("pymysql")
    try:
        server.create()
        _make_version_1(server)
        _made.cache_clear()  # as in a process that has created no tables before
        async with server.twin():
            pass
        assert len(_collations(server)) == 1
    finally:
        server.drop()


def _collations(server: Server) -> set[str]:
    names = [f"{server.prefix}{name}" for name in ("sagas", "outbox")]
    columns = sa.table("columns", sa.column("table_name"), sa.column("collation_name"), schema="information_schema")
    found = sa.select(columns.c.collation_name).where(columns.c.table_name.in_(names))
    with server.engine.connect() as connection:
        return {str(name) for name in connection.scalars(found.where(columns.c.collation_name.is_not(None)))}


def _make_version_1(server: Server) -> None:
    tables: Tables = server.tables
    with server.engine.begin() as connection:
        tables.outbox.drop(connection)
        connection.execute(sa.update(tables.meta).values(value=1))


def _definitions(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        version = connection.execute("SELECT name, value FROM anysaga_meta").fetchall()
    return [*rows, *version]


def test_tables_have_an_hour_to_be_brought_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no share of the lease, as other transactions have."""
    limits: list[float] = []

    def look(connection: sa.Connection, **_: object) -> None:
        limits.extend(turn.seconds for turn in watch._turns)

    monkeypatch.setattr("anysaga.storages.sql._core.bring_forward", look)
    core = SQLAlchemyStorage(tmp_path / "sagas.db")._core
    core.open()
    core.close()
    assert 3600.0 in limits
