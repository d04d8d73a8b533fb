"""From what a user gives as address to an engine, or to the reason why that cannot be."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from anysaga._errors import MissingDriver, StorageRefused

_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

_OF_ANOTHER_LOOP = "an asynchronous engine belongs to the loop that it was used in: give its URL instead"


def engine_of(address: str | os.PathLike[str] | sa.URL | sa.Engine) -> sa.Engine:
    """An engine for a URL, the path of a SQLite file, or an engine, which is taken as it is.

    Raises `MissingDriver` if a package has to be installed first, `StorageRefused` if the address cannot be used.
    """
    if isinstance(address, sa.Engine):
        _check(address.url)
        if address.dialect.is_async:
            raise StorageRefused(str(address), _OF_ANOTHER_LOOP)
        return address
    if hasattr(address, "sync_engine"):
        raise StorageRefused(str(address), _OF_ANOTHER_LOOP)
    url = _url_of(address)
    _check(url)
    return sa.create_engine(_absolute(url), poolclass=sa.NullPool)


def _url_of(address: str | os.PathLike[str] | sa.URL) -> sa.URL:
    if isinstance(address, sa.URL):
        return address
    text = os.fspath(address)
    if isinstance(address, os.PathLike) or "://" not in text:
        return sa.URL.create("sqlite", database=text)
    try:
        return sa.make_url(text)
    except ArgumentError as error:
        raise StorageRefused("at the given address", "it is not a URL that SQLAlchemy understands") from error


def _check(url: sa.URL) -> None:
    name = url.render_as_string(hide_password=True)
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
        if dialect.is_async:
            import_module("greenlet")  # SQLAlchemy says so only at the first connection
    except ArgumentError as error:
        raise StorageRefused(name, f"SQLAlchemy knows no such kind of database ({error})") from error
    except ImportError as error:
        package = error.name or url.drivername
        raise MissingDriver(name, package, _EXTRAS.get(url.get_backend_name(), "sql")) from error
    if dialect.name != "sqlite" or dialect.driver not in ("pysqlite", "aiosqlite"):
        raise StorageRefused(name, "this kind of database is not supported yet: give a sqlite:/// address")
    if _is_in_memory(url):
        raise StorageRefused(
            name,
            "SQLite in memory is lost with its connection and seen by no other: "
            "use MemoryStorage() for tests, or name a file, as in sqlite:///orders.db",
        )


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
