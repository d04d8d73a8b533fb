"""PostgreSQL, and what speaks its protocol: by psycopg in threads, or by asyncpg in the library's asyncio thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from uuid import uuid4
from zlib import crc32

import sqlalchemy as sa

from anysaga._errors import StorageRefused
from anysaga.storages.sql._database import connected
from anysaga.storages.sql._prepared import Command, CursorWire, Wire, wire_of
from anysaga.storages.sql._server import READ_ONLY, ServerDatabase, driver_of, shut_down

_NOW = "anysaga.now"
_LOCK = crc32(b"anysaga tables")
_MARK = "SELECT current_setting('anysaga.session', true)"
_POOLED = (
    "a pooler in between gives each transaction another session, with the settings and prepared statements of others: "
    "connect to the server itself, or have it pool by session"
)
_WITHOUT_CODE = {  # while a connection is made codes are lost, and the driver itself gives none
    re.compile("authentication failed|no pg_hba.conf entry|role .* does not exist"): "28P01",
    re.compile("database .* does not exist"): "3D000",
    re.compile("cannot contain NUL"): "22021",
}


class PsycopgWire(CursorWire):
    """psycopg, with texts left as they are, and statements sent together where that can be."""

    def __init__(self, driver: Any) -> None:
        raw: Any = import_module("psycopg").RawCursor  # the common one looks for placeholders of its own in the text
        super().__init__(partial(raw, driver))
        self._driver = driver

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            while cursor.nextset():
                pass  # only the last statement of a text is a query
            return cursor.fetchall()  # type: ignore[no-any-return]  # a driver has no types
        finally:
            cursor.close()

    def execute_together(self, commands: Sequence[Command], /) -> list[int]:
        # The last one goes alone. A pipeline of psycopg ends with a flush, and to the server a connection that said
        # something is not idle any more: it would not end the transaction of a client that then hangs.
        first, last = commands[:-1], commands[-1:]
        if len(first) <= 1:
            return super().execute_together(commands)
        return [*self._in_pipeline(first), *super().execute_together(last)]

    def _in_pipeline(self, commands: Sequence[Command]) -> list[int]:
        failed: Exception | None = None
        cursors: list[Any] = []
        try:
            with self._driver.pipeline():
                try:
                    cursors = [self._cursor().execute(text, values) for text, values in commands]
                except Exception as error:  # noqa: BLE001 - raised below: psycopg complains of what leaves a pipeline
                    failed = error
        except Exception as error:  # noqa: BLE001 - raised at once
            raise failed or error from None
        if failed is not None:
            raise failed
        return [cursor.rowcount for cursor in cursors]


class PostgreSQLDatabase(ServerDatabase):
    """A PostgreSQL server."""

    updates_from_rows = True
    takes_json = True
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
        "26000": _POOLED,
        "42P05": _POOLED,
        "25006": READ_ONLY,
    }
    read_only = re.compile("25006")
    faults_of_rows = re.compile("22...|23...|40...|54...|55P03")
    misfits = re.compile("22...|54...")
    _has_sessions = False

    @contextmanager
    def alone(self, connection: sa.Connection) -> Iterator[None]:
        connection.exec_driver_sql(_longest(0, local=True))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield

    @contextmanager
    def single(self, connection: sa.Connection) -> Iterator[None]:
        driver, is_async = driver_of(connection), self._engine.dialect.is_async
        try:
            if is_async:
                driver.autocommit = True  # as that of psycopg always is
            yield
        except BaseException as error:
            if not connection.invalidated:
                self.note_failure(connection, error)
            raise
        finally:
            if is_async:
                driver.autocommit = False

    def wire(self, connection: sa.Connection) -> Wire:
        return super().wire(connection) if self._engine.dialect.is_async else PsycopgWire(driver_of(connection))

    def prepare(self, driver: Any) -> None:
        if not self._engine.dialect.is_async:
            driver.autocommit = True  # else psycopg sends a BEGIN of its own, in a message of its own

    def admit(self, connection: sa.Connection, made: Callable[[Any], None]) -> None:
        driver, wire = driver_of(connection), wire_of(connection)
        if self._has_sessions or wire.fetch("SELECT pg_backend_pid()", ())[0][0] == self._backend_of(driver):
            return
        # It was not the server that let us in. Before anything is set that others would find: is the session ours?
        mark = uuid4().hex
        wire.execute(f"SET anysaga.session = '{mark}'", ())
        driver.commit()
        with self._another(made) as other:  # its transaction stays open, and keeps the session that it was given
            if other.exec_driver_sql(_MARK).scalar() == mark or wire.fetch(_MARK, ())[0][0] != mark:
                raise StorageRefused(self.address, _POOLED)
        made(driver)
        self._has_sessions = True

    def start(self, connection: sa.Connection, *, writes: bool) -> None:
        if self._engine.dialect.is_async:
            return
        # BEGIN and the moment in one message.
        begin = "BEGIN ISOLATION LEVEL " + ("READ COMMITTED" if writes else "REPEATABLE READ READ ONLY")
        connection.info[_NOW] = wire_of(connection).fetch(f"{begin}; {self.moment}", None)[0][0]

    def now(self, connection: sa.Connection) -> int:
        moment: int | None = connection.info.pop(_NOW, None)
        return super().now(connection) if moment is None else moment

    def settings(self, connection: sa.Connection) -> list[str]:  # noqa: ARG002 - the same for all
        return [
            f"SET lock_timeout = {max(round(self.patience * 1000), 1)}",
            "SET default_transaction_isolation = 'read committed'",  # for `single`
            f"SET idle_in_transaction_session_timeout = {max(round(self.idle * 1000), 1)}",
            # To the server nobody is idle who vanished between two parts of a message, as asyncpg's first ones have.
            _longest(max(4 * self.idle, 2.0)),
            # Plans are kept: those made for an empty table would read it from end to end when it is full.
            *(f"SET enable_{way} = off" for way in ("seqscan", "hashjoin", "mergejoin")),
            "SET jit = off",  # a fifth of a second for each plan that seems dear, as many do with those settings
        ]

    @contextmanager
    def _another(self, made: Callable[[Any], None]) -> Iterator[sa.Connection]:
        connection = connected(self._engine)
        try:
            made(driver_of(connection))
            yield connection
        finally:
            self.close(connection)

    def _backend_of(self, driver: Any) -> int:
        """The process that serves this connection, as whoever let us in has it."""
        is_async = self._engine.dialect.is_async
        return int(driver.driver_connection.get_server_pid() if is_async else driver.info.backend_pid)

    def break_off(self, driver: Any) -> None:
        if self._engine.dialect.is_async:
            driver.driver_connection.terminate()
        else:
            shut_down(driver.fileno)

    def code_of(self, error: BaseException) -> str:
        code = getattr(error, "sqlstate", None)
        if code:
            return str(code)
        text = str(error)
        return next((code for pattern, code in _WITHOUT_CODE.items() if pattern.search(text)), "")

    def is_open(self, driver: Any) -> bool:
        if self._engine.dialect.is_async:
            return not driver.driver_connection.is_closed()
        return not driver.closed


def _longest(seconds: float, *, local: bool = False) -> str:
    """Have the server end transactions that take longer, if it is one that can: PostgreSQL 17 and later."""
    value = f"set_config(name, '{round(seconds * 1000)}', {local})"
    return f"SELECT {value} FROM pg_settings WHERE name = 'transaction_timeout'"  # noqa: S608 - a number and a flag
