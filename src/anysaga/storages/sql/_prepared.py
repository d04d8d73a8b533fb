"""Statements of SQLAlchemy Core that are turned into the driver's SQL once, and then only fed with values.

What every saga needs goes to the driver itself: SQLAlchemy's own execution costs several times what SQLite takes.
"""

from __future__ import annotations

import math
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain, count, islice
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa

_WIRE = "anysaga.wire"
_MOST_VALUES = 2**13  # SQLite takes 32,766 and PostgreSQL 65,535
_NUMBERED = re.compile(r"\$\d+")


Command = tuple[str, Any]
"""A statement in the driver's SQL, and its values."""


class Wire(Protocol):
    """A driver's connection, as far as prepared statements use it. Raises the driver's own errors."""

    @property
    def longest(self) -> float:
        """How many characters of values a statement with several rows may have at most."""
        ...

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        """Execute a query, and return all its rows."""
        ...

    def execute(self, text: str, values: Any, /) -> int:
        """Execute a statement, and return how many rows it met."""
        ...

    def execute_together(self, commands: Sequence[Command], /) -> list[int]:
        """Execute several statements, none of which needs the answer to another. Returns how many rows each met."""
        ...


class CursorWire:
    """Any driver that speaks the DBAPI, and what SQLAlchemy makes to look like one."""

    def __init__(self, cursor: Callable[[], Any], *, longest: float = math.inf) -> None:
        self._cursor = cursor
        self.longest = longest

    def fetch(self, text: str, values: Any, /) -> Sequence[Sequence[Any]]:
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            return cursor.fetchall()  # type: ignore[no-any-return]  # a driver has no types
        finally:
            cursor.close()

    def execute(self, text: str, values: Any, /) -> int:
        cursor = self._cursor()
        try:
            cursor.execute(text, values)
            return cursor.rowcount  # type: ignore[no-any-return]  # a driver has no types
        finally:
            cursor.close()

    def execute_together(self, commands: Sequence[Command], /) -> list[int]:
        return [self.execute(text, values) for text, values in commands]


def lay(wire: Wire, connection: sa.Connection) -> None:
    """Have the prepared statements on this connection go by `wire`."""
    connection.info[_WIRE] = wire


def wire_of(connection: sa.Connection) -> Wire:
    """The wire that was laid."""
    return connection.info[_WIRE]  # type: ignore[no-any-return]  # as `lay` put it there


Row: TypeAlias = Any
"""Values by their names; or a tuple of them, for a statement that knows its order."""


class Prepared:
    """One statement for one kind of database. Every value comes from the rows: its text has no others.

    `order` has the names of the values in rows that are tuples.
    """

    def __init__(self, statement: sa.Executable, order: Sequence[str] = ()) -> None:
        self._statement: Any = statement
        self._order = order
        self._text = ""
        self._names: tuple[str, ...] = ()
        self._values: Callable[[Any], tuple[Any, ...]] = tuple

    def fetch(self, connection: sa.Connection, row: Row) -> Sequence[Sequence[Any]]:
        """Execute a query with one row of values, and return all that it finds."""
        return wire_of(connection).fetch(self._compiled(connection), self._values(row))

    def read(self, connection: sa.Connection, row: Row) -> list[Any]:
        """The same, in named tuples."""
        found = self.fetch(connection, row)
        return list(map(self._row_type._make, found))

    def run(self, connection: sa.Connection, row: Row) -> int:
        """Execute it with one row of values. Returns how many rows of the table that met."""
        return wire_of(connection).execute(self._compiled(connection), self._values(row))

    def commands(self, connection: sa.Connection, rows: Iterable[Row]) -> list[Command]:
        """What is to be executed for many rows."""
        text = self._compiled(connection)
        return [(text, self._values(row)) for row in rows]

    @cached_property
    def _row_type(self) -> Any:
        return namedtuple("Row", self._statement.selected_columns.keys())  # noqa: PYI024 - known only here

    def _compiled(self, connection: sa.Connection) -> str:
        if not self._text:
            compiled = self._statement.compile(dialect=_positional(connection.dialect))
            self._names = tuple(compiled.positiontup)
            self._values = _taking(self._names, self._order)
            self._text = str(compiled)
        return self._text


class Bulk(Prepared):
    """One statement that takes many rows at once: its text has one ``VALUES``, with one row of all its values.

    So a driver comes back to Python once for many rows. SQLite's lets another thread have the interpreter at each row
    that it executes, and a busy event loop takes its time to give it back; to a server each execution is a message.
    """

    def __init__(self, statement: sa.Executable, order: Sequence[str] = ()) -> None:
        super().__init__(statement, order)
        self._texts: dict[int, str] = {}

    def commands(self, connection: sa.Connection, rows: Iterable[Row]) -> list[Command]:
        self._compiled(connection)
        values = list(map(self._values, rows))
        longest = wire_of(connection).longest
        commands: list[Command] = []
        done = 0
        while done < len(values):
            # A power of two at a time, so that few texts are prepared.
            size = min(1 << (len(values) - done).bit_length() - 1, _MOST_VALUES // len(self._names))
            while size > 1 and longest < math.inf and _characters(values[done : done + size]) > longest:
                size //= 2
            commands.append((self._text_for(size), tuple(chain.from_iterable(values[done : done + size]))))
            done += size
        return commands

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


def _characters(rows: Iterable[tuple[Any, ...]]) -> int:
    return sum(len(value) for row in rows for value in row if isinstance(value, str))


def literal(number: int) -> sa.ColumnElement[int]:
    """A number that is part of a statement's text, as a prepared one needs it."""
    return sa.literal_column(str(number), sa.Integer)


def execute_all(connection: sa.Connection, *work: tuple[Prepared, Iterable[Row]]) -> list[int]:
    """Execute several statements with many rows each. Returns how many rows of the tables each of them met."""
    commands = [statement.commands(connection, rows) for statement, rows in work]
    met = iter(wire_of(connection).execute_together(list(chain.from_iterable(commands))))
    return [sum(islice(met, len(some))) for some in commands]


def _taking(names: Sequence[str], order: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from a row to the values of these names."""
    if not order:
        return lambda row: tuple(map(row.__getitem__, names))
    if list(names) == list(order):
        return tuple  # which a tuple comes out of as it is
    return itemgetter(*map(order.index, names))


def _positional(dialect: sa.Dialect) -> sa.Dialect:
    """The same dialect, but with values by position: a tuple is made faster than a mapping."""
    if dialect.positional:
        return dialect
    kind: Any = type(dialect)
    again: sa.Dialect = kind(paramstyle="numeric_dollar" if dialect.name == "postgresql" else "format")
    return again
