"""What database servers have in common: several processes write at once, and connections break."""

from __future__ import annotations

import re
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from anysaga._errors import AnysagaError, NotStorable, StorageRefused, StorageUnavailable
from anysaga.storages.sql._database import Database, connected
from anysaga.storages.sql._hosts import Host, asyncio_thread, calling_thread
from anysaga.storages.sql._prepared import CursorWire, Wire, lay, wire_of

_SHARE_OF_LEASE = 0.24
_DAY = 86_400.0  # longer than anybody waits, and servers take no number of any size
_WAITS: ContextVar[Callable[[Any], None] | None] = ContextVar("anysaga_waits", default=None)
_IS_WHOLE = "anysaga.is_whole"

READ_ONLY = "it only lets itself be read: perhaps it is a replica, give the address of the primary"


class ServerDatabase(Database):
    """A database server, whose clock all owners share.

    Transactions that write are READ COMMITTED: after it has waited for a lock, a statement sees what was committed
    meanwhile. Those that read are REPEATABLE READ: a saga and its log belong together. `patience` is how many seconds
    a transaction waits for a lock, and `idle` how long one that does nothing is kept open by the server: below a
    quarter of the lease, so that one that hangs is over before somebody takes its sagas.
    """

    one_writer = False
    moment: ClassVar[str]
    """The query for the server's time in microseconds, UTC."""

    refusals: ClassVar[dict[str, str]]
    """What the server will not do however often it is asked, by its code, and what to do about it."""

    read_only: ClassVar[re.Pattern[str]]
    """Codes of a server that only lets itself be read."""

    faults_of_rows: ClassVar[re.Pattern[str]]
    """Codes of what may be the fault of one row, or of the moment: without the others it may succeed."""

    misfits: ClassVar[re.Pattern[str]]
    """Codes of values that no column takes."""

    def __init__(self, engine: sa.Engine, *, lease: float, busy_timeout: float) -> None:
        self.address = engine.url.render_as_string(hide_password=True)
        self.host: Host = asyncio_thread if engine.dialect.is_async else calling_thread
        self.idle = min(lease * _SHARE_OF_LEASE, _DAY)
        self.patience = min(busy_timeout, self.idle)
        dialect: Any = engine.dialect
        self._driver_errors: tuple[type[BaseException], ...] = (dialect.loaded_dbapi.Error, OSError)
        self._engine = engine
        event.listen(engine, "connect", _tell, insert=True)  # before SQLAlchemy asks the server about itself

    def connect(self, *, writes: bool, made: Callable[[Any], None]) -> sa.Connection:
        waits = _WAITS.set(made)
        try:
            connection = connected(self._engine)
        finally:
            _WAITS.reset(waits)
        try:
            made(driver_of(connection))
            driver_of(connection).commit()  # what a listener of a given engine has said, and left open
            connection.execution_options(isolation_level="READ COMMITTED" if writes else "REPEATABLE READ")
            connection.detach()
            self.prepare(driver_of(connection))
            lay(self.wire(connection), connection)
            self.admit(connection, made)
            for statement in self.settings(connection):
                wire_of(connection).execute(statement, ())
            driver_of(connection).commit()
        except BaseException:
            self.close(connection)
            raise
        return connection

    @contextmanager
    def begin(self, connection: sa.Connection, *, writes: bool) -> Iterator[None]:
        driver = driver_of(connection)
        try:
            self.start(connection, writes=writes)
            yield
            driver.commit()
            connection.commit()  # SQLAlchemy's own view of it, if it took part
        except BaseException as error:
            if connection.invalidated:  # SQLAlchemy has seen it break, and lets nobody touch it
                raise
            connection.info[_IS_WHOLE] = False
            with suppress(SQLAlchemyError, *self._driver_errors):
                driver.rollback()
                connection.rollback()
                connection.info[_IS_WHOLE] = not self._is_read_only(error)
            raise

    def is_clean(self, connection: sa.Connection) -> bool:
        return not connection.invalidated and bool(connection.info[_IS_WHOLE]) and self.is_open(driver_of(connection))

    def now(self, connection: sa.Connection) -> int:
        return int(wire_of(connection).fetch(self.moment, ())[0][0])

    def close(self, connection: sa.Connection) -> None:
        # Without SQLAlchemy: it would roll back before, and complain in its log if the connection is broken.
        driver = None if connection.invalidated else driver_of(connection)
        if driver is not None:
            connection.detach()
            with suppress(SQLAlchemyError, *self._driver_errors):
                driver.close()
        connection.invalidate()
        connection.close()

    def cut(self, driver: Any) -> None:
        self.host.post(partial(self.break_off, driver))

    def explain(self, error: Exception) -> AnysagaError | None:
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return NotStorable("a value", str(error))
        cause = _driver_error(error)
        if not isinstance(cause, self._driver_errors):
            return StorageUnavailable(self.address, str(error)) if isinstance(error, SQLAlchemyError) else None
        code, text = self.code_of(cause), " ".join(str(cause).split())
        if self.misfits.fullmatch(code):
            return NotStorable("a value", text)
        advice = self.refusals.get(code)
        if advice is not None:
            return StorageRefused(self.address, f"{advice} ({text})")
        return StorageUnavailable(self.address, text or type(cause).__name__)

    def blames_a_row(self, error: Exception) -> bool:
        cause = _driver_error(error.__cause__ if isinstance(error, AnysagaError) else error)
        if not isinstance(cause, self._driver_errors):
            return not isinstance(error, StorageUnavailable | StorageRefused)
        return self.faults_of_rows.fullmatch(self.code_of(cause)) is not None

    def prepare(self, driver: Any) -> None:
        """Set up the driver of a new connection, before anything is executed on it."""

    def admit(self, connection: sa.Connection, made: Callable[[Any], None]) -> None:
        """Raise `StorageRefused` if a new connection leads to what a store cannot work with."""

    def start(self, connection: sa.Connection, *, writes: bool) -> None:
        """Begin a transaction. Most drivers do so by themselves, with its first statement."""

    def wire(self, connection: sa.Connection) -> Wire:
        """The way of statements to the server."""
        return CursorWire(driver_of(connection).cursor)

    @abstractmethod
    def break_off(self, driver: Any) -> None:
        """Break a connection without a word to the server. Called where the driver is used, or in any thread."""

    @abstractmethod
    def settings(self, connection: sa.Connection) -> list[str]:
        """What a new connection executes first."""

    @abstractmethod
    def code_of(self, error: BaseException) -> str:
        """The server's code of an error; empty if the server had no say in it."""

    @abstractmethod
    def is_open(self, driver: Any) -> bool:
        """Whether the driver still believes in its connection."""

    def note_failure(self, connection: sa.Connection, error: BaseException) -> None:
        """Take note whether the connection can be used again, after an error that left no transaction open."""
        connection.info[_IS_WHOLE] = isinstance(_driver_error(error), self._driver_errors) and not self._is_read_only(
            error
        )

    def _is_read_only(self, error: BaseException) -> bool:
        """Whether a new connection may be better: after a failover the same address leads to another server."""
        cause = _driver_error(error)
        return isinstance(cause, self._driver_errors) and self.read_only.fullmatch(self.code_of(cause)) is not None


def _driver_error(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def shut_down(file_descriptor: Callable[[], int]) -> None:
    """Shut down a driver's socket, both ways, so that a thread that waits at it wakes up.

    Not the driver's own end of it: a driver that is closed while it waits in another thread may come to harm.
    """
    with suppress(Exception):  # closed meanwhile, then, in whatever words the driver has for it
        number = file_descriptor()
        with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as twin:
            if file_descriptor() == number:  # else the number may be that of another file by now
                twin.shutdown(socket.SHUT_RDWR)


def _tell(driver: Any, _record: object) -> None:
    made = _WAITS.get()
    if made is not None:
        made(driver)


def driver_of(connection: sa.Connection) -> Any:
    """The driver's connection, or what SQLAlchemy makes to look like one."""
    return connection.connection.dbapi_connection
