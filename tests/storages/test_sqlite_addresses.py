"""What a SQLAlchemyStorage accepts, and how it says no."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker

from anysaga._errors import InvalidArgument, MissingDriver, StorageRefused
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created

pytestmark = pytest.mark.anyio

Address = str | Path | sa.URL | sa.Engine


@pytest.mark.parametrize(
    "address_of",
    [
        lambda file: file,
        str,
        lambda file: f"sqlite:///{file}",
        lambda file: f"sqlite+pysqlite:///{file}",
        lambda file: f"sqlite:///file:{file}?uri=true",
        lambda file: f"sqlite+aiosqlite:///{file}",
        lambda file: f"sqlite+aiosqlite:///file:{file}?uri=true",
        lambda file: sa.make_url(f"sqlite:///{file}"),
        lambda file: sa.create_engine(f"sqlite:///{file}"),
    ],
    ids=["path", "text", "url", "url with driver", "uri", "asyncio url", "asyncio uri", "parsed url", "engine"],
)
async def test_all_ways_to_name_a_file(tmp_path: Path, address_of: Callable[[Path], Address]) -> None:
    file = tmp_path / "größe 1.db"
    async with SQLAlchemyStorage(address_of(file)) as storage:
        await created(storage)
    async with SQLAlchemyStorage(file) as storage:
        assert len(await storage.find()) == 1


async def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SQLAlchemyStorage("orders.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    async with storage:
        assert (tmp_path / "orders.db").exists()


async def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    storage = SQLAlchemyStorage(file)
    assert not file.exists()
    assert await storage.find() == []
    assert file.exists()
    await storage.aclose()


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":memory:",
        "sqlite://",
        "sqlite+aiosqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:name?mode=memory&uri=true",
        sa.create_engine("sqlite://"),
    ],
)
def test_sqlite_in_memory_is_refused_with_the_reason(address: str | sa.Engine) -> None:
    with pytest.raises(StorageRefused, match=r"use MemoryStorage\(\) for tests, or name a file"):
        SQLAlchemyStorage(address)


@pytest.mark.parametrize(
    "drivername", ["postgresql+psycopg2", "postgresql+psycopg_async", "oracle", "sqlite+pysqlcipher"]
)
def test_other_databases_and_drivers_are_refused_with_those_to_choose_from(drivername: str) -> None:
    with pytest.raises(StorageRefused, match=r"choose one of sqlite\+pysqlite://, sqlite\+aiosqlite") as caught:
        SQLAlchemyStorage(f"{drivername}://u:secret@host/orders")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("short", "driver"), [("postgresql", "psycopg"), ("postgres", "psycopg"), ("mysql", "pymysql")]
)
def test_an_address_that_names_no_driver_gets_one_that_blocks(short: str, driver: str) -> None:
    assert f"+{driver}://" in repr(SQLAlchemyStorage(f"{short}://u@host/orders"))


def test_an_engine_of_another_loop_is_refused() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///orders.db")
    for address in (engine, engine.sync_engine):
        with pytest.raises(StorageRefused, match="give its URL instead"):
            SQLAlchemyStorage(address)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, sessionmaker(), b"orders.db", 5], ids=lambda one: type(one).__name__)
def test_what_is_no_address_is_refused_with_what_is(given: object) -> None:
    """Such as the session factory that other libraries want."""
    words = f"{type(given).__name__} is no address: give a URL, the path of a SQLite file, or an Engine"
    with pytest.raises(StorageRefused, match=words):
        SQLAlchemyStorage(given)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        ("postgresql+psycopg://host/orders", "psycopg", "postgres"),
        ("mysql+pymysql://host/orders", "pymysql", "mysql"),
        ("mariadb+pymysql://host/orders", "pymysql", "mysql"),
        ("sqlite+aiosqlite:///orders.db", "aiosqlite", "sql"),
        ("sqlite+aiosqlite:///orders.db", "greenlet", "sql"),
    ],
)
def test_a_missing_driver_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriver) as caught:
        SQLAlchemyStorage(address)
    assert (caught.value.package, caught.value.extra) == (package, extra)


def test_without_sqlalchemy_the_extra_is_named() -> None:
    script = """
import sys
sys.modules["sqlalchemy"] = None
from anysaga.storages import MemoryStorage
try:
    from anysaga.storages import SQLAlchemyStorage
except ImportError as error:
    print(error)
"""
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'anysaga[sql]'" in run.stdout


@pytest.mark.parametrize("address", ["redis://localhost", "://", "sqlite+nothing:///orders.db"])
def test_what_is_no_database_is_refused(address: str) -> None:
    with pytest.raises(StorageRefused):
        SQLAlchemyStorage(address)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lease": 0}, "lease"),
        ({"lease": float("nan")}, "lease"),
        ({"lease": float("inf")}, "lease"),
        ({"lease": 1e10}, "lease"),
        ({"lease": 10**400}, "lease"),
        ({"lease": "30"}, "lease"),
        ({"lease": True}, "lease"),
        ({"busy_timeout": -1}, "busy_timeout"),
        ({"busy_timeout": None}, "busy_timeout"),
        ({"busy_timeout": float("inf")}, "busy_timeout"),
        ({"table_prefix": None}, "table_prefix"),
        ({"durability": "none"}, "durability"),
        ({"table_prefix": ""}, "table_prefix"),
        ({"table_prefix": "Sagas_"}, "table_prefix"),
        ({"table_prefix": "a" * 49}, "table_prefix"),
        ({"table_prefix": 'x"; DROP TABLE y; --'}, "table_prefix"),
        ({"table_prefix": "sagas_\n"}, "table_prefix"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SQLAlchemyStorage("orders.db", **options)  # type: ignore[arg-type]
    assert caught.value.name == name


async def test_two_prefixes_in_one_file_are_two_stores(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    async with (
        SQLAlchemyStorage(file, table_prefix="a_") as first,
        SQLAlchemyStorage(file, table_prefix="b_") as second,
    ):
        await created(first)
        assert await second.find() == []
        await created(second)


def _no_database(file: Path) -> None:
    file.write_text("this is a letter, not a database; " * 100)


def _other_version(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE anysaga_meta (name, value)")
        connection.execute("INSERT INTO anysaga_meta VALUES ('schema_version', 99)")


@pytest.mark.parametrize(
    ("prepare", "name", "message"),
    [
        (_no_database, "orders.db", "not a SQLite database"),
        (_other_version, "orders.db", "schema version 99"),
        (Path.touch, "nowhere/orders.db", "its directory exists"),
        (Path.mkdir, "orders.db", "cannot be opened"),
        (Path.touch, "file:orders.db?mode=ro&uri=true", "read-only"),
    ],
)
async def test_a_file_that_cannot_work_is_refused_at_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None], name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "orders.db")
    storage = SQLAlchemyStorage(f"sqlite:///{name}")
    for verb in (storage.open, storage.find, lambda: created(storage)):
        await _refuses(verb, message)
    await storage.aclose()


async def _refuses(verb: Callable[[], Awaitable[object]], message: str) -> None:
    with pytest.raises(StorageRefused, match=message) as caught:
        await verb()
    assert "sqlalchemy" not in type(caught.value).__module__


async def test_without_create_schema_the_tables_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    storage = SQLAlchemyStorage(file, create_schema=False)
    await _refuses(storage.open, "create_schema=True")
    async with SQLAlchemyStorage(file):
        pass
    await storage.open()
    await created(storage)
    await storage.aclose()


@pytest.mark.parametrize("words", ["BEGIN", "BEGIN EXCLUSIVE"])
async def test_an_engine_that_begins_its_transactions_in_words_can_be_given(tmp_path: Path, words: str) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'orders.db'}")
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(words))
    async with SQLAlchemyStorage(engine) as storage:
        await created(storage)
        assert len(await storage.find()) == 1
    engine.dispose()


def test_an_engine_that_moves_tables_to_another_schema_is_refused() -> None:
    engine = sa.create_engine("sqlite:///orders.db", execution_options={"schema_translate_map": {None: "sagas"}})
    with pytest.raises(StorageRefused, match="search_path"):
        SQLAlchemyStorage(engine)
    SQLAlchemyStorage(engine.execution_options(schema_translate_map={"tenant": "sagas"}))


async def test_an_engine_is_left_as_it_was(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'orders.db'}")
    async with SQLAlchemyStorage(engine) as storage:
        await created(storage)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE mine (x)"))
        assert connection.connection.dbapi_connection is not None
        assert connection.connection.dbapi_connection.isolation_level == ""
    engine.dispose()
