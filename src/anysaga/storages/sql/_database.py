"""The seam between one kind of database and all the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from anysaga._errors import AnysagaError
from anysaga.storages.sql._hosts import Host


def connected(engine: sa.Engine) -> sa.Connection:
    """A connection from the pool of an engine, without what its owner has transactions and statements do.

    Ours begin in words, and a listener that says BEGIN, as SQLAlchemy's page on SQLite has it, would say it once more.
    """
    echo: Any = engine.echo  # which SQLAlchemy gives the type of its setter
    again = sa.Engine(engine.pool, engine.dialect, engine.url, echo=echo, hide_parameters=engine.hide_parameters)
    return again.connect()


class Database(ABC):
    """How one kind of database is opened, begun, asked for the time, and understood when it fails.

    Everything else about SQL is the same everywhere, in `_operations`.
    """

    address: str
    """Where it is, without a password: what messages call the store."""

    host: Host
    """Where its driver is used. Connections live and end there."""

    one_writer: ClassVar[bool]
    """Whether the database itself lets one transaction write at a time. If not, the rows have to be locked."""

    updates_from_rows: ClassVar[bool]
    """Whether one UPDATE can bring new values for many rows."""

    takes_json: ClassVar[bool] = False
    """Whether one statement can write rows of several tables, given as JSON."""

    @abstractmethod
    def connect(self, *, writes: bool, made: Callable[[Any], None]) -> sa.Connection:
        """Open a connection that this storage alone uses, set up, outside of any pool, with a wire for statements.

        Its transactions write, and see what others commit meanwhile; or they only read, all from one snapshot.
        Calls `made` with the driver's connection as soon as there is one.
        """

    def close(self, connection: sa.Connection) -> None:
        """Close a connection, broken or not. What broke it was raised before."""
        try:
            connection.close()
        except SQLAlchemyError:
            connection.invalidate()

    def cut(self, driver: Any) -> None:  # noqa: B027 - a file always answers
        """Break a driver's connection, from any thread, so that whoever waits for an answer gets an error.

        Neither waits nor raises.
        """

    @abstractmethod
    def begin(self, connection: sa.Connection, *, writes: bool) -> AbstractContextManager[object]:
        """A transaction, committed when the block ends, undone when it raises."""

    def single(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """A transaction of one statement. Once it is sent, nobody knows without its answer whether it took effect."""
        return self.begin(connection, writes=True)

    @abstractmethod
    def alone(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """Keep every other process from changing tables meanwhile. Entered in a transaction that writes."""

    def create_tables(self, connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
        """Create those of these tables that are missing: not every database undoes it with the transaction."""
        for table in tables:
            table.create(connection, checkfirst=True)

    @abstractmethod
    def is_clean(self, connection: sa.Connection) -> bool:
        """Whether the connection can be used again after a transaction on it has failed."""

    @abstractmethod
    def now(self, connection: sa.Connection) -> int:
        """The moment, by the clock that all owners of sagas share."""

    @abstractmethod
    def explain(self, error: Exception) -> AnysagaError | None:
        """The error of ours that says the same as this one of the driver; None if it is not the driver's."""

    @abstractmethod
    def blames_a_row(self, error: Exception) -> bool:
        """Whether an explained error may be the fault of one row, so that other rows could be written without it."""
