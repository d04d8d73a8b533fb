"""Statements of SQLAlchemy Core that are turned into the driver's SQL once, and then only fed with values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa


class Prepared:
    """One statement for one kind of database. Every value comes from the rows: its text has no others."""

    def __init__(self, statement: sa.Executable) -> None:
        self._statement: Any = statement
        self._text = ""
        self._names: tuple[str, ...] | None = None

    def run(self, connection: sa.Connection, row: Mapping[str, Any]) -> sa.CursorResult[Any]:
        """Execute it with one row of values."""
        return connection.exec_driver_sql(self._compiled(connection), self._values(row))

    def run_all(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it with many rows, as the driver's `executemany`; not at all without rows."""
        text = self._compiled(connection)
        values = list(map(self._values, rows))
        if values:
            connection.exec_driver_sql(text, values)

    def _compiled(self, connection: sa.Connection) -> str:
        if not self._text:
            compiled = self._statement.compile(dialect=connection.dialect)
            self._names = tuple(compiled.positiontup) if compiled.positional else None
            self._text = str(compiled)
        return self._text

    def _values(self, row: Mapping[str, Any]) -> Any:
        return dict(row) if self._names is None else tuple(map(row.__getitem__, self._names))
