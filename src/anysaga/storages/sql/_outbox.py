"""The outbox: events on their way, in a table of their own; plain functions of a connection, like `_operations`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from anysaga._outbox import Delivery, Message, OutboxLag, Settlement
from anysaga._records import SagaState, Write
from anysaga.storages._clock import microseconds
from anysaga.storages.sql._prepared import Bulk, Prepared, execute_all, literal
from anysaga.storages.sql._rows import whole_number
from anysaga.storages.sql._tables import Tables

WAITING, DEAD, HELD = 0, 1, 2

Work = tuple[Prepared, Iterable[dict[str, Any]]]


class OutboxRows:
    """The rows of events, and what becomes of them."""

    def __init__(self, tables: Tables) -> None:
        table = tables.outbox
        self._insert = Bulk(sa.insert(table))
        of_saga = (table.c.saga_id == b("b_saga_id"), table.c.state == literal(HELD))
        self._let_go = Prepared(sa.update(table).where(*of_saga).values(state=literal(WAITING), due_at=b("b_now")))
        self._drop = Prepared(sa.delete(table).where(*of_saga))
        key = (
            table.c.saga_id == b("b_saga_id"),
            table.c.destination == b("b_destination"),
            table.c.position == b("b_position"),
        )
        leased = (*key, table.c.lease == b("b_lease"))
        self._delivered = Prepared(sa.delete(table).where(*leased))
        self._failed = Prepared(
            sa.update(table)
            .where(*leased)
            .values(
                due_at=b("b_due"),
                state=b("b_state"),
                error=b("b_error"),
                attempts=table.c.attempts - b("b_uncounted", type_=sa.BigInteger),
            )
        )
        is_dead = (*key, table.c.state == DEAD)
        self._revive = sa.update(table).where(*is_dead).values(state=WAITING, attempts=0, due_at=b("b_now"))
        self._skip = sa.delete(table).where(*is_dead)
        self._build_lease(table, key)
        self._build_reads(table)

    def entering(self, writes: Sequence[Write], now: int) -> list[Work]:
        """What these writes mean for the outbox, as statements to run with those that record them."""
        rows = [row for write in writes for row in _rows(write, now)]
        ending = [write for write in writes if write.frees_held]
        if not rows and not ending:
            return []
        completed = [each.saga_id for each in ending if each.state is SagaState.COMPLETED]
        others = [each.saga_id for each in ending if each.state is not SagaState.COMPLETED]
        return [
            (self._insert, rows),
            (self._let_go, [{"b_saga_id": saga_id, "b_now": now} for saga_id in completed]),
            (self._drop, [{"b_saga_id": saga_id} for saga_id in others]),
        ]

    def is_due(self, connection: sa.Connection, destination: str, now: int) -> bool:
        """Whether there is anything to lease."""
        values = {"b_destination": destination, "b_now": now, "b_limit": 1}
        return connection.execute(self._looked_for, values).first() is not None

    def lease(
        self, connection: sa.Connection, destination: str, limit: int, seconds: float, now: int
    ) -> list[Delivery]:
        """Take the first event of each saga that is due, the longest due first."""
        values = {"b_destination": destination, "b_now": now, "b_limit": max(limit, 0)}
        rows = self._first(connection, destination, connection.execute(self._due, values).all())
        until = now + microseconds(seconds)
        taken = [{**_key(row.saga_id, destination, row.position), "b_due": until} for row in rows]
        execute_all(connection, (self._take, sorted(taken, key=_order)))
        return [
            _delivery(row, attempts=whole_number(row.attempts) + 1, lease=whole_number(row.lease) + 1) for row in rows
        ]

    def settle(self, connection: sa.Connection, settlements: Iterable[Settlement], now: int) -> None:
        """Delete what is delivered, and say of the rest when it is due again, or that it is dead."""
        delivered: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for each in settlements:
            delivery = each.delivery
            values = {**_key_of(delivery), "b_lease": delivery.lease}
            if each.error is None:
                delivered.append(values)
                continue
            state, wait = (DEAD, 0.0) if each.wait is None else (WAITING, each.wait)
            what = {"b_state": state, "b_error": each.error, "b_uncounted": int(not each.counts)}
            failed.append({**values, **what, "b_due": now + microseconds(wait)})
        execute_all(
            connection, (self._delivered, sorted(delivered, key=_order)), (self._failed, sorted(failed, key=_order))
        )

    def dead(self, connection: sa.Connection, limit: int, after: Delivery | None) -> list[Delivery]:
        """List dead letters by saga and destination."""
        saga_id, destination = ("", "") if after is None else (after.message.saga_id, after.destination)
        values = {"b_saga_id": saga_id, "b_destination": destination, "b_limit": max(limit, 0)}
        rows = connection.execute(self._dead, values)
        return [_delivery(row, attempts=row.attempts, lease=row.lease) for row in rows]

    def revive(self, connection: sa.Connection, delivery: Delivery, now: int) -> bool:
        """Have a dead letter sent again."""
        return connection.execute(self._revive, {**_key_of(delivery), "b_now": now}).rowcount == 1

    def skip(self, connection: sa.Connection, delivery: Delivery) -> bool:
        """Give a dead letter up."""
        return connection.execute(self._skip, _key_of(delivery)).rowcount == 1

    def lag(self, connection: sa.Connection, now: int) -> OutboxLag:
        """Count what waits, and what is dead."""
        found = {row.state: row for row in connection.execute(self._lag)}
        waiting, dead = found.get(WAITING), found.get(DEAD)
        oldest = 0.0 if waiting is None else max(now - waiting.oldest, 0) / 1_000_000
        return OutboxLag(0 if waiting is None else waiting.number, 0 if dead is None else dead.number, oldest)

    def _first(self, connection: sa.Connection, destination: str, rows: Sequence[Any]) -> list[Any]:
        """Those of these rows, now that they are locked, which no earlier event of their saga goes before.

        MySQL locks rows as they are, while what it asks of others is as old as the query.
        """
        if not rows:
            return []
        values = {"b_destination": destination, "b_ids": sorted({row.saga_id for row in rows})}
        first = {row.saga_id: row.position for row in connection.execute(self._heads, values)}
        return [row for row in rows if row.position == first[row.saga_id]]

    def _build_lease(self, table: sa.Table, key: Sequence[sa.ColumnElement[bool]]) -> None:
        earlier = table.alias("earlier")
        goes_before = sa.exists(sa.literal_column("1")).where(
            earlier.c.saga_id == table.c.saga_id,
            earlier.c.destination == table.c.destination,
            earlier.c.position < table.c.position,
            earlier.c.state != HELD,
        )
        self._looked_for = (
            sa.select(table)
            .where(
                table.c.destination == b("b_destination"),
                table.c.state == WAITING,
                table.c.due_at <= b("b_now"),
                ~goes_before,
            )
            .order_by(table.c.due_at, table.c.saga_id)
            .limit(b("b_limit", type_=sa.Integer))
        )
        self._heads = (
            sa.select(table.c.saga_id, sa.func.min(table.c.position).label("position"))
            .where(
                table.c.saga_id.in_(b("b_ids", expanding=True)),
                table.c.destination == b("b_destination"),
                table.c.state != HELD,
            )
            .group_by(table.c.saga_id)
        )
        self._due = self._looked_for.with_for_update(skip_locked=True)
        one: sa.ColumnElement[int] = literal(1)
        self._take = Prepared(
            sa.update(table)
            .where(*key)
            .values(attempts=table.c.attempts + one, lease=table.c.lease + one, due_at=b("b_due"))
        )

    def _build_reads(self, table: sa.Table) -> None:
        after = sa.or_(
            table.c.saga_id > b("b_saga_id"),
            sa.and_(table.c.saga_id == b("b_saga_id"), table.c.destination > b("b_destination")),
        )
        self._dead = (
            sa.select(table)
            .where(table.c.state == DEAD, after)
            .order_by(table.c.saga_id, table.c.destination, table.c.position)
            .limit(b("b_limit", type_=sa.Integer))
        )
        self._lag = sa.select(
            table.c.state, sa.func.count().label("number"), sa.func.min(table.c.at).label("oldest")
        ).group_by(table.c.state)


def _rows(write: Write, now: int) -> list[dict[str, Any]]:
    return [
        {
            "saga_id": write.saga_id,
            "destination": destination,
            "position": position,
            "event_id": event.id,
            "type": event.type,
            "data": event.data,
            "saga": event.saga,
            "step": event.step,
            "at": now,
            "state": HELD if event.held else WAITING,
            "due_at": now,
            "attempts": 0,
            "lease": 0,
            "error": None,
        }
        for position, event in write.events
        for destination in event.destinations
    ]


def _key(saga_id: str, destination: str, position: int) -> dict[str, Any]:
    return {"b_saga_id": saga_id, "b_destination": destination, "b_position": position}


def _key_of(delivery: Delivery) -> dict[str, Any]:
    return _key(delivery.message.saga_id, delivery.destination, delivery.position)


def _order(values: Mapping[str, Any]) -> tuple[str, str, int]:
    return values["b_saga_id"], values["b_destination"], values["b_position"]


def _delivery(row: Any, *, attempts: int, lease: int) -> Delivery:
    message = Message(row.event_id, row.type, row.data, row.at, row.saga_id, row.saga, row.step)
    return Delivery(message, row.destination, row.position, attempts, lease, row.error)
