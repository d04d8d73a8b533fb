"""Databases on PostgreSQL servers: a fresh one for each turn, and stores in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import sqlalchemy as sa

from anysaga import SQLAlchemyStorage
from anysaga.abc import Storage

POSTGRES = "ANYSAGA_POSTGRES_URL"
_NUMBERS = count()


def given() -> str | None:
    """The server that the environment names, as a plain ``postgresql://`` address."""
    return os.environ.get(POSTGRES)


@contextmanager
def database(server: str) -> Iterator[str]:
    """A fresh database: its address, without a driver."""
    name = f"anysaga_bench_{os.getpid()}_{next(_NUMBERS)}"
    engine = sa.create_engine(with_driver(server, "psycopg"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def with_driver(address: str, driver: str) -> str:
    """The same address, for SQLAlchemy by this driver."""
    return sa.make_url(address).set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


def store(address: str, driver: str) -> Storage:
    """A store in that database."""
    return SQLAlchemyStorage(with_driver(address, driver))
