"""PostgreSQL, and what speaks its protocol: by psycopg in threads, or by asyncpg in the library's asyncio thread."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from zlib import crc32

import sqlalchemy as sa

from anysaga.storages.sql._prepared import CursorWire, Wire
from anysaga.storages.sql._server import ServerDatabase, driver_of

_LOCK = crc32(b"anysaga tables")
_AT_CONNECT = {  # codes are lost while a connection is made
    re.compile("authentication failed|no pg_hba.conf entry|role .* does not exist"): "28P01",
    re.compile("database .* does not exist"): "3D000",
}


class PostgreSQLDatabase(ServerDatabase):
    """A PostgreSQL server."""

    updates_from_rows = True
    moment = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    refusals = {
        "28P01": "user or password is wrong, or this user may not connect from here",
        "28000": "user or password is wrong, or this user may not connect from here",
        "3D000": "there is no such database: create it first",
        "3F000": "there is no such schema",
        "42501": "this user lacks a right that it needs: to read and write the tables, and to create them at first",
        "42P01": "its tables are gone, or another search_path hides them",
        "42703": "its tables are not those of anysaga",
        "25006": "it only lets itself be read: perhaps it is a replica, give the address of the primary",
    }
    faults_of_rows = re.compile("22...|23...|40...|54...|55P03")
    misfits = re.compile("22...|54...")

    @contextmanager
    def alone(self, connection: sa.Connection) -> Iterator[None]:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield

    def wire(self, connection: sa.Connection) -> Wire:
        if self._engine.dialect.is_async:
            return super().wire(connection)
        raw: Any = import_module("psycopg").RawCursor  # it leaves the text as it is; the other looks for placeholders
        return CursorWire(partial(raw, driver_of(connection)))

    def settings(self, connection: sa.Connection) -> list[str]:  # noqa: ARG002
        limit = max(round(self.patience * 1000), 1)
        return [f"SET lock_timeout = {limit}", f"SET idle_in_transaction_session_timeout = {limit}"]

    def code_of(self, error: BaseException) -> str:
        code = getattr(error, "sqlstate", None)
        if code:
            return str(code)
        text = str(error)
        return next((code for pattern, code in _AT_CONNECT.items() if pattern.search(text)), "")

    def is_open(self, driver: Any) -> bool:
        if self._engine.dialect.is_async:
            return not driver.driver_connection.is_closed()
        return not driver.closed
