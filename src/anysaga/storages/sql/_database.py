"""The seam between one kind of database and all the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

import sqlalchemy as sa

from anysaga._errors import AnysagaError
from anysaga.storages.sql._hosts import Host


class Database(ABC):
    """How one kind of database is opened, begun, asked for the time, and understood when it fails.

    Everything else about SQL is the same everywhere, in `_operations`.
    """

    address: str
    """Where it is, without a password: what messages call the store."""

    host: Host
    """Where its driver is used. Connections live and end there."""

    @abstractmethod
    def connect(self) -> sa.Connection:
        """Open a connection that this storage alone uses, set up, outside of any pool, with a wire for statements."""

    @abstractmethod
    def begin(self, connection: sa.Connection, *, writes: bool) -> AbstractContextManager[object]:
        """A transaction, committed when the block ends, undone when it raises.

        One that writes is serialised with all others that do.
        """

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
