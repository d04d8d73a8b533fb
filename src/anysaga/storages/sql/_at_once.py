"""All that a batch writes, in one statement with its rows as JSON: one message to a server, however many they are.

The statement is a transaction of its own, so it asks for the moment itself: moments in its rows count from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy import bindparam as b

from anysaga._records import NewSaga, SagaState, Write
from anysaga._snapshot import dumps
from anysaga.storages.sql._advancing import ZERO, advance, changes_of
from anysaga.storages.sql._outbox import HELD, WAITING
from anysaga.storages.sql._prepared import Prepared, literal
from anysaga.storages.sql._rows import ADVANCES, advance_row, entry_rows, saga_row, start_row
from anysaga.storages.sql._tables import Tables

_NOW: sa.ColumnElement[int] = sa.literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_MOMENTS = {
    *("created_at", "updated_at", "next_attempt_at", "deadline", "ended_at", "at"),
    *("b_now", "b_ended", "b_next"),
}
_KEPT, _DUE, _DROPPED = 0, 1, 2  # what becomes of events that wait for the end of a saga


@frozen
class Written:
    """What became of a batch: the moment, whether sagas could begin, and the ids of those that were brought forward."""

    now: int
    begins: bool
    forward: frozenset[str]


class AtOnce:
    """The statements of PostgreSQL. What they write becomes visible together.

    Sagas begin only for an owner who lives; a saga is brought forward only if it is as expected, and not locked.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._columns = {table: table.c.keys() for table in (tables.sagas, tables.starts, tables.entries)}
        self._statement = cache(self._build)

    def write(self, connection: sa.Connection, new: Sequence[NewSaga], writes: Sequence[Write], owner: str) -> Written:
        """Begin sagas for an owner, and record writes that have no events."""
        values = {"owner": owner, "new": self._begun(new, owner), "given": self._given(writes)}
        statement = self._statement(bool(new), bool(writes), any(write.frees_held for write in writes))
        ((now, begins, forward),) = statement.fetch(connection, values)
        return Written(now, begins, frozenset(forward))

    def _begun(self, new: Iterable[NewSaga], owner: str) -> str:
        sagas, starts = self._columns[self._tables.sagas], self._columns[self._tables.starts]
        return dumps(
            [
                {
                    **_named(sagas, saga_row(each, owner, 0)),
                    **_named(starts, start_row(each)),
                    "entries": self._entries(each),
                }
                for each in new
            ]
        )

    def _given(self, writes: Iterable[Write]) -> str:
        return dumps(
            [
                {**_named(ADVANCES, advance_row(each, 0)), "b_held": _held(each), "b_entries": self._entries(each)}
                for each in writes
            ]
        )

    def _entries(self, of: NewSaga | Write) -> list[dict[str, Any]]:
        names = self._columns[self._tables.entries]
        return [_named(names, row) for row in entry_rows(of.saga_id, of.entries, 0)]

    def _build(self, begins: bool, goes_on: bool, frees: bool) -> Prepared:  # noqa: FBT001 - by position, for the cache
        """The statement for batches in which sagas begin, or go on, or free events that were held."""
        moment = sa.select(_NOW.label("now")).cte("moment")
        now = sa.select(moment.c.now).scalar_subquery()
        parts: list[sa.CTE] = []
        logs: list[sa.Select[Any]] = []
        lives: sa.ColumnElement[bool] = sa.true()
        forward: sa.ColumnElement[Any] = sa.literal_column("ARRAY[]::text[]")
        if begins:
            lives, some, log = self._beginning(now)
            parts += some
            logs.append(log)
        if goes_on:
            advanced = self._advanced(now)
            forward = sa.func.array(sa.select(advanced.c.id).scalar_subquery())
            logs.append(sa.select(advanced.c.b_entries))
            if frees:
                parts += self._freeing(advanced, now)
        parts.append(self._logged(logs, now))
        return Prepared(sa.select(moment.c.now, lives, forward).add_cte(*parts))

    def _beginning(self, now: Any) -> tuple[sa.ColumnElement[bool], list[sa.CTE], sa.Select[Any]]:
        sagas, starts, owners = self._tables.sagas, self._tables.starts, self._tables.owners
        alive = (
            sa.select(owners.c.id)
            .where(owners.c.id == b("owner"), owners.c.dead == ZERO, owners.c.expires_at >= now)
            .cte("alive")
        )
        lives = sa.exists(sa.select(alive.c.id))
        columns = {**_types(sagas), **_types(starts), "entries": sa.JSON()}
        new = sa.select(_given("new", columns)).where(lives).cte("fresh")
        begun = sa.insert(sagas).from_select(sagas.c.keys(), sa.select(*_moved(new, sagas.c.keys(), now)))
        started = sa.insert(starts).from_select(starts.c.keys(), sa.select(*_moved(new, starts.c.keys(), now)))
        return lives, [begun.cte("begun"), started.cte("started")], sa.select(new.c.entries)

    def _advanced(self, now: Any) -> sa.CTE:
        sagas = self._tables.sagas
        given = _given("given", {**ADVANCES, "b_held": sa.SmallInteger(), "b_entries": sa.JSON()})
        moved = sa.select(*_moved(given, given.c.keys(), now)).subquery("moved")
        changes = changes_of(moved, sagas.alias("locked"))
        kept = (sagas.c.id, changes.c.b_held, changes.c.b_entries)
        return advance(sagas, dict(changes.c)).returning(*kept).cte("advanced")

    def _freeing(self, advanced: sa.CTE, now: Any) -> list[sa.CTE]:
        outbox = self._tables.outbox
        held = (outbox.c.saga_id == advanced.c.id, outbox.c.state == literal(HELD))
        due = sa.update(outbox).where(*held, advanced.c.b_held == literal(_DUE))
        dropped = sa.delete(outbox).where(*held, advanced.c.b_held == literal(_DROPPED))
        return [due.values(state=literal(WAITING), due_at=now).cte("due"), dropped.cte("dropped")]

    def _logged(self, logs: Sequence[sa.Select[Any]], now: Any) -> sa.CTE:
        entries = self._tables.entries
        written = sa.union_all(*logs).subquery("written") if len(logs) > 1 else logs[0].subquery("written")
        (log,) = written.c
        each = _recordset(log, "each", _types(entries))
        rows = sa.select(*_moved(each, entries.c.keys(), now)).select_from(written.join(each, sa.true()))
        return sa.insert(entries).from_select(entries.c.keys(), rows).cte("logged")


def _held(write: Write) -> int:
    if not write.frees_held:
        return _KEPT
    return _DUE if write.state is SagaState.COMPLETED else _DROPPED


def _named(names: Iterable[str], row: Iterable[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _types(table: sa.Table) -> dict[str, Any]:
    return {column.name: column.type for column in table.c}


def _moved(rows: sa.FromClause, names: Iterable[str], now: Any) -> list[sa.ColumnElement[Any]]:
    """These columns of rows whose moments count from `now`."""
    return [(rows.c[name] + now).label(name) if name in _MOMENTS else rows.c[name] for name in names]


def _given(name: str, columns: Mapping[str, Any]) -> Any:
    """A table of what is given as JSON under `name`."""
    return _recordset(sa.cast(b(name, type_=sa.Text), sa.JSON), name, columns)


def _recordset(text: sa.ColumnElement[Any], name: str, columns: Mapping[str, Any]) -> Any:
    parts = (sa.column(each, sa.Text() if isinstance(kind, sa.String) else kind) for each, kind in columns.items())
    return sa.func.json_to_recordset(text).table_valued(*parts).render_derived(name=name, with_types=True)
