"""SQLite: WAL, one writer that begins with BEGIN IMMEDIATE, and what its errors mean."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.util import await_only

from anysaga._errors import AnysagaError, NotStorable, StorageError, StorageRefused, StorageUnavailable
from anysaga.storages._clock import Clock
from anysaga.storages.sql._database import Database, connected
from anysaga.storages.sql._hosts import Host, asyncio_thread, calling_thread
from anysaga.storages.sql._prepared import Command, CursorWire, Wire, lay, wire_of

_T = TypeVar("_T")

Durability = Literal["full", "normal"]

_REFUSALS = {
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: check that its directory exists and may be written to",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_READONLY: "the file, or its directory, is read-only",
    sqlite3.SQLITE_PERM: "access to the file is not permitted",
}
_FAULTS_OF_ROWS = (
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_FULL,  # a row less, and the others may still find room
)
_PAUSE = 0.01
_LONGEST_WAIT = 2**31 - 1  # milliseconds; what is more means no wait at all to SQLite


class SQLiteDatabase(Database):
    """A SQLite file. Transactions are begun and ended in words, whatever the driver's own transaction mode is."""

    one_writer = True
    updates_from_rows = sqlite3.sqlite_version_info >= (3, 33)

    def __init__(self, engine: sa.Engine, *, durability: Durability, busy_timeout: float, clock: Clock) -> None:
        self.address = engine.url.render_as_string(hide_password=True)
        self.host: Host = asyncio_thread if engine.dialect.is_async else calling_thread
        self._engine = engine
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._clock = clock

    def connect(self, *, writes: bool, made: Callable[[Any], None]) -> sa.Connection:  # noqa: ARG002 - BEGIN says it, and a file always answers
        connection = connected(self._engine)
        try:
            connection.detach()
            lay(self._wire(connection), connection)
            self._set_up(_driver(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def begin(self, connection: sa.Connection, *, writes: bool) -> Iterator[None]:
        wire = wire_of(connection)
        wire.execute("BEGIN IMMEDIATE" if writes else "BEGIN", ())
        try:
            yield
            wire.execute("COMMIT", ())
            connection.commit()  # what SQLAlchemy began by itself, if anything
        except BaseException:
            with suppress(sqlite3.Error, ValueError, SQLAlchemyError):
                _driver(connection).rollback()
                connection.rollback()
            raise

    def alone(self, connection: sa.Connection) -> AbstractContextManager[object]:  # noqa: ARG002 - whoever writes is alone
        return nullcontext()

    def is_clean(self, connection: sa.Connection) -> bool:
        # A full disk rolls back by itself; a COMMIT that failed may have left the transaction open.
        dialect: Any = connection.dialect
        try:
            is_open = dialect.get_driver_connection(_driver(connection)).in_transaction
        except (sqlite3.Error, ValueError, SQLAlchemyError):  # ValueError: aiosqlite's word for a closed connection
            return False
        return not is_open

    def now(self, connection: sa.Connection) -> int:  # noqa: ARG002 - servers are asked, SQLite has no clock
        return self._clock.now()

    def explain(self, error: Exception) -> AnysagaError | None:
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return NotStorable("a value", str(error))
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, sqlite3.Error):
            return self._explain(cause)
        if isinstance(error, SQLAlchemyError):
            return StorageUnavailable(self.address, str(error))
        return None

    def blames_a_row(self, error: Exception) -> bool:
        if not isinstance(error, StorageError):
            return True
        cause = getattr(error.__cause__, "orig", error.__cause__)
        return isinstance(cause, sqlite3.Error) and _primary_code(cause) in _FAULTS_OF_ROWS

    def _wire(self, connection: sa.Connection) -> Wire:
        return _AiosqliteWire(connection) if self._engine.dialect.is_async else CursorWire(_driver(connection).cursor)

    def _explain(self, error: sqlite3.Error) -> AnysagaError:
        reason = _REFUSALS.get(_primary_code(error))
        if reason is not None:
            return StorageRefused(self.address, f"{reason} ({error})")
        if _is_busy(error):
            return StorageUnavailable(
                self.address, f"another connection held the write lock for more than {self._busy_timeout:g} s ({error})"
            )
        return StorageUnavailable(self.address, str(error))

    def _set_up(self, driver: sqlite3.Connection) -> None:
        legacy = getattr(sqlite3, "LEGACY_TRANSACTION_CONTROL", None)
        if legacy is not None and isinstance(driver, sqlite3.Connection):
            driver.autocommit = legacy  # type: ignore[attr-defined, unused-ignore]  # Python 3.12 and later
        driver.isolation_level = None
        driver.execute(f"PRAGMA busy_timeout = {min(round(self._busy_timeout * 1000), _LONGEST_WAIT)}")
        self._use_wal(driver)
        driver.execute(f"PRAGMA synchronous = {self._durability.upper()}")

    def _use_wal(self, driver: sqlite3.Connection) -> None:
        # The switch to WAL does not honour the busy timeout when two connections attempt it at once.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                # By a cursor: what `execute` of the adapter for aiosqlite gives in SQLAlchemy 2.0 has to be awaited.
                with closing(driver.cursor()) as cursor:
                    cursor.execute("PRAGMA journal_mode = WAL")
                    (mode,) = cursor.fetchone()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                self.host.sleep(_PAUSE)
                continue
            if mode != "wal":
                raise StorageRefused(self.address, f"its journal mode is {mode!r} and cannot be changed to WAL here")
            return


class _AiosqliteWire:
    """aiosqlite itself: SQLAlchemy's cursors cross threads four times for a statement, and this once."""

    longest = math.inf

    def __init__(self, connection: sa.Connection) -> None:
        dialect: Any = connection.dialect
        self._driver: Any = dialect.get_driver_connection(connection.connection.dbapi_connection)

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = _awaited(self._driver.execute_fetchall(text, values))
        return rows

    def execute(self, text: str, values: Any, /) -> int:
        return int(_awaited(self._driver.execute(text, values)).rowcount)

    def execute_together(self, commands: Sequence[Command], /) -> list[int]:
        return [self.execute(text, values) for text, values in commands]


def _awaited(answer: Awaitable[_T]) -> _T:
    try:
        return await_only(answer)
    except ValueError as error:
        if type(error) is ValueError:  # aiosqlite's word for a closed connection
            raise sqlite3.OperationalError(str(error)) from error
        raise


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    driver: Any = connection.connection.dbapi_connection
    return driver  # type: ignore[no-any-return]  # a driver has no types


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
