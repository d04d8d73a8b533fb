"""Circuits that processes share, in a table of their own; plain functions of a connection, like `_operations`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from anysaga._guard import CircuitRecord
from anysaga.storages.sql._tables import Tables


class Circuits:
    """Reads circuits, and writes one if nobody else did meanwhile."""

    def __init__(self, tables: Tables) -> None:
        table = tables.circuits
        self._load = sa.select(table.c.version, table.c.text).where(table.c.name == b("b_name"))
        self._insert = sa.insert(table)
        self._update = (
            sa.update(table)
            .where(table.c.name == b("b_name"), table.c.version == b("b_before"))
            .values(version=table.c.version + 1, text=b("b_text"), updated_at=b("b_now"))
        )

    def load(self, connection: sa.Connection, name: str, now: int) -> CircuitRecord:
        """Read a circuit; version 0 if there is none yet."""
        row = connection.execute(self._load, {"b_name": name}).first()
        return CircuitRecord(0, "", now) if row is None else CircuitRecord(row.version, row.text, now)

    def save(self, connection: sa.Connection, name: str, text: str, before: int, now: int) -> bool:
        """Write a circuit whose version is `before`. False: it is another one.

        Raises what the driver raises for a key that is taken, where somebody else has entered it.
        """
        if before:
            values = {"b_name": name, "b_before": before, "b_text": text, "b_now": now}
            return connection.execute(self._update, values).rowcount == 1
        connection.execute(self._insert, {"name": name, "version": 1, "text": text, "updated_at": now})
        return True
