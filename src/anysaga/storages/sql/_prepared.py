"""Statements of SQLAlchemy Core that are turned into the driver's SQL once, and then only fed with values.

What every saga needs goes to the driver itself: SQLAlchemy's own execution costs several times what SQLite takes.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, count
from typing import Any, Protocol

import sqlalchemy as sa

_WIRE = "anysaga.wire"
_MOST_VALUES = 2**13  # SQLite takes 32,766 and PostgreSQL 65,535
_NUMBERED = re.compile(r"\$\d+")


class Wire(Protocol):
    """A driver's connection, as far as prepared statements use it. Raises the driver's own errors."""

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        """Execute a query, and return all its rows."""
        ...

    def execute(self, text: str, values: Any, /) -> int:
        """Execute a statement, and return how many rows it met."""
        ...

    def execute_all(self, text: str, values: Sequence[Any], /) -> None:
        """Execute a statement with many rows of values."""
        ...


class CursorWire:
    """Any driver that speaks the DBAPI, and what SQLAlchemy makes to look like one."""

    def __init__(self, cursor: Callable[[], Any]) -> None:
        self._cursor = cursor

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            return cursor.fetchall()  # type: ignore[no-any-return]
        finally:
            cursor.close()

    def execute(self, text: str, values: Any, /) -> int:
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            return cursor.rowcount  # type: ignore[no-any-return]
        finally:
            cursor.close()

    def execute_all(self, text: str, values: Sequence[Any], /) -> None:
        cursor = self._cursor()
        try:
            cursor.executemany(text, values)
        finally:
            cursor.close()


def lay(wire: Wire, connection: sa.Connection) -> None:
    """Have the prepared statements on this connection go by `wire`."""
    connection.info[_WIRE] = wire


def wire_of(connection: sa.Connection) -> Wire:
    """The wire that was laid."""
    return connection.info[_WIRE]  # type: ignore[no-any-return]


class Prepared:
    """One statement for one kind of database. Every value comes from the rows: its text has no others."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement: Any = statement
        self._text = ""
        self._names: tuple[str, ...] = ()

    def fetch(self, connection: sa.Connection, row: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute a query with one row of values, and return all that it finds."""
        return wire_of(connection).fetch(self._compiled(connection), self._values(row))

    def read(self, connection: sa.Connection, row: Mapping[str, Any]) -> list[Any]:
        """The same, in named tuples."""
        found = self.fetch(connection, row)
        return list(map(self._row_type._make, found))

    def run(self, connection: sa.Connection, row: Mapping[str, Any]) -> int:
        """Execute it with one row of values. Returns how many rows of the table that met."""
        return wire_of(connection).execute(self._compiled(connection), self._values(row))

    def run_all(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int | None:
        """Execute it with many rows, as the driver's `executemany`; not at all without rows.

        Returns how many rows of the table that met, if that can be told.
        """
        text = self._compiled(connection)
        values = list(map(self._values, rows))
        if len(values) == 1:
            return wire_of(connection).execute(text, values[0])
        if values:
            wire_of(connection).execute_all(text, values)
        return None

    @cached_property
    def _row_type(self) -> Any:
        return namedtuple("Row", self._statement.selected_columns.keys())  # noqa: PYI024  # known only here

    def _compiled(self, connection: sa.Connection) -> str:
        if not self._text:
            compiled = self._statement.compile(dialect=_positional(connection.dialect))
            self._names = tuple(compiled.positiontup)
            self._text = str(compiled)
        return self._text

    def _values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(map(row.__getitem__, self._names))


class Bulk(Prepared):
    """One statement that takes many rows at once: its text has one ``VALUES``, with one row of all its values.

    So a driver comes back to Python once for many rows. SQLite's lets another thread have the interpreter at each row
    that it executes, and a busy event loop takes its time to give it back; to a server each execution is a message.
    """

    def __init__(self, statement: sa.Executable) -> None:
        super().__init__(statement)
        self._texts: dict[int, str] = {}

    def run_all(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int:
        """Execute it with many rows. Returns how many rows of the table that met."""
        self._compiled(connection)
        values = list(map(self._values, rows))
        wire, done, met = wire_of(connection), 0, 0
        while done < len(values):
            # A power of two at a time, so that few texts are prepared.
            size = min(1 << (len(values) - done).bit_length() - 1, _MOST_VALUES // len(self._names))
            met += wire.execute(self._text_for(size), tuple(chain.from_iterable(values[done : done + size])))
            done += size
        return met

    def _text_for(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            before, word, after = self._text.partition("VALUES ")
            row, bracket, after = after.partition(")")
            rows = ", ".join([row + bracket] * size)
            numbers = count(1)
            text = _NUMBERED.sub(lambda _: f"${next(numbers)}", f"{before}{word}{rows}{after}")
            self._texts[size] = text
        return text


def _positional(dialect: sa.Dialect) -> sa.Dialect:
    """The same dialect, but with values by position: a tuple is made faster than a mapping."""
    if dialect.positional:
        return dialect
    kind: Any = type(dialect)
    again: sa.Dialect = kind(paramstyle="numeric_dollar" if dialect.name == "postgresql" else "format")
    return again
