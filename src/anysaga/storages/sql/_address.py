"""From what a user gives as address to an engine, or to the reason why that cannot be."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from anysaga._errors import MissingDriver, StorageRefused

_DRIVERS = {
    "sqlite": ("pysqlite", "aiosqlite"),
    "postgresql": ("psycopg", "asyncpg"),
    "mysql": ("pymysql",),
    "mariadb": ("pymysql",),
}
"""The drivers that are supported; the first is taken where an address names none."""

_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

_LIMITS = {
    "psycopg": ["connect_timeout"],
    "asyncpg": ["timeout"],
    "pymysql": ["connect_timeout", "read_timeout", "write_timeout"],  # the first is for TCP, and not for the greeting
}
"""The drivers' names for how many seconds it may take to connect."""

_TRANSLATED = (
    "its schema_translate_map does not reach the statements of a store: "
    "let the connections find the schema by themselves, on PostgreSQL by their search_path"
)
_OF_ANOTHER_LOOP = "an asynchronous engine belongs to the loop that it was used in: give its URL instead"


def engine_of(address: str | os.PathLike[str] | sa.URL | sa.Engine, *, connect_limit: float) -> sa.Engine:
    """An engine for a URL, the path of a SQLite file, or an engine, which is taken as it is.

    A server has `connect_limit` seconds to let us in, unless the URL says something else.

    Raises `MissingDriver` if a package has to be installed first, `StorageRefused` if the address cannot be used.
    """
    if isinstance(address, sa.Engine):
        _check(address.url)
        if address.dialect.is_async:
            raise StorageRefused(str(address), _OF_ANOTHER_LOOP)
        if address.get_execution_options().get("schema_translate_map", {}).get(None):
            raise StorageRefused(str(address), _TRANSLATED)
        return address
    if hasattr(address, "sync_engine"):
        raise StorageRefused(str(address), _OF_ANOTHER_LOOP)
    url = _url_of(address)
    _check(url)
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(_absolute(url), poolclass=sa.NullPool)
    limits = _LIMITS[url.get_dialect().driver]
    arguments = {name: round(connect_limit) for name in limits if name not in url.query}
    return sa.create_engine(url, connect_args=arguments, poolclass=sa.NullPool)


def _url_of(address: object) -> sa.URL:
    if isinstance(address, sa.URL):
        return address
    if not isinstance(address, str | os.PathLike):
        problem = f"{type(address).__name__} is no address: give a URL, the path of a SQLite file, or an Engine"
        raise StorageRefused("at the given address", problem)
    text = os.fspath(address)
    if isinstance(address, os.PathLike) or "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        url = sa.make_url(text)
    except ArgumentError as error:
        raise StorageRefused("at the given address", "it is not a URL that SQLAlchemy understands") from error
    kind = "postgresql" if url.drivername == "postgres" else url.drivername
    return url.set(drivername=f"{kind}+{_DRIVERS[kind][0]}") if kind in _DRIVERS else url


def _check(url: sa.URL) -> None:
    name = url.render_as_string(hide_password=True)
    kind, driver = url.get_backend_name(), url.drivername.partition("+")[2]
    if kind not in _DRIVERS or (driver and driver not in _DRIVERS[kind]):
        raise StorageRefused(name, f"this database or driver is not supported: choose one of {', '.join(_supported())}")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
        if dialect.is_async:
            import_module("greenlet")  # SQLAlchemy says so only at the first connection
    except ImportError as error:
        package = error.name or url.drivername
        raise MissingDriver(name, package, _EXTRAS.get(url.get_backend_name(), "sql")) from error
    if dialect.name == "sqlite" and _is_in_memory(url):
        raise StorageRefused(
            name,
            "SQLite in memory is lost with its connection and seen by no other: "
            "use MemoryStorage() for tests, or name a file, as in sqlite:///orders.db",
        )


def _supported() -> list[str]:
    return [f"{kind}+{driver}://" for kind, drivers in _DRIVERS.items() for driver in drivers]


def _is_in_memory(url: sa.URL) -> bool:
    database = url.database or ""
    return (
        database in ("", ":memory:") or ":memory:" in database or "memory" in (url.query.get("mode"), _mode(database))
    )


def _mode(database: str) -> str:
    return "memory" if database.startswith("file:") and "mode=memory" in database else ""


def _absolute(url: sa.URL) -> sa.URL:
    # Connections are opened later, perhaps after the process has changed its directory.
    database = url.database or ""
    return url if database.startswith("file:") else url.set(database=str(Path(database).absolute()))
