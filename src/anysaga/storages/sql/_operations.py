"""What a store does, each verb a plain function of a connection inside a transaction that somebody else runs.

What goes in batches is in `_writes`.

Every function is true for any database that SQLAlchemy speaks to, once the transaction is serialised with the others
that write. Moments are handed in: the clock is the database's affair. Rows are always read to their end, since SQLite
keeps to an old snapshot for as long as a cursor is open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from anysaga._errors import (
    CorruptRecord,
    OperationRefused,
    SagaAlreadyRunning,
    SagaNotFound,
)
from anysaga._records import Claim, SagaRecord, SagaState, SagaSummary
from anysaga.storages._clock import microseconds
from anysaga.storages.rules import patience
from anysaga.storages.sql._rows import record_of, summary_of
from anysaga.storages.sql._statements import Statements

_MOST_AT_ONCE = 500
"""Sagas that one transaction claims at most, so that a huge limit does not hold up every other writer."""


class Operations:
    """The verbs on the tables of one prefix. The statements are built once: SQLAlchemy then compiles them once."""

    def __init__(self, statements: Statements) -> None:
        self._sql = statements

    def renew(self, connection: sa.Connection, owner: str, expires_at: int) -> bool:
        """Renew a lease. False: there is no such living owner."""
        return connection.execute(self._sql.renew, {"b_id": owner, "b_expires": expires_at}).rowcount == 1

    def is_alive(self, connection: sa.Connection, owner: str, now: int) -> bool:
        """Whether the lease holds, by the clock of the database; ours may have stood still while the machine slept."""
        return bool(self._sql.alive.fetch(connection, {"b_id": owner, "b_now": now}))

    def register(self, connection: sa.Connection, owner: str, label: str, expires_at: int) -> None:
        """Enter a new incarnation, and forget those that died long ago: a saga of an unknown owner is free too."""
        values = {"id": owner, "label": label, "expires_at": expires_at, "dead": 0}
        connection.execute(self._sql.forget_dead, {"b_before": expires_at - microseconds(86_400)})
        connection.execute(self._sql.insert_owner, values)

    def claim(
        self, connection: sa.Connection, saga_id: str, states: Iterable[SagaState], owner: str, now: int
    ) -> list[Claim]:
        """Claim one free saga, or raise why not."""
        self._mark_dead(connection, now)
        values = {"b_id": saga_id, "b_states": _texts(states), "b_owner": owner}
        if connection.execute(self._sql.claim, values).rowcount == 0:
            raise self._why_not_claimed(connection, saga_id)
        return [self._claimed(connection, saga_id, now)]

    def claim_due(
        self, connection: sa.Connection, names: Iterable[str], limit: int, owner: str, now: int
    ) -> list[Claim]:
        """Claim the sagas that are due the longest. One that cannot be read is parked, and does not stop the others."""
        self._mark_dead(connection, now)
        values = {"b_names": sorted(set(names)), "b_now": now, "b_limit": min(max(limit, 0), _MOST_AT_ONCE)}
        due = connection.execute(self._sql.due, values).all()
        if not due:
            return []
        taken = [{"b_id": row.id, "b_owner": owner, "b_next": now + patience(row.claims + 1)} for row in due]
        connection.execute(self._sql.claim_due, sorted(taken, key=lambda values: values["b_id"]))
        claims: list[Claim] = []
        for row in due:
            try:
                claims.append(self._claimed(connection, row.id, now))
            except CorruptRecord as error:
                connection.execute(self._sql.park, {"b_id": row.id, "b_now": now, "b_note": str(error)})
        return claims

    def fence(self, connection: sa.Connection, saga_id: str) -> int | None:
        """The saga's current fence."""
        query, values = self._sql.positions([saga_id])
        rows = query.fetch(connection, values)
        return rows[0][1] if rows else None

    def release(self, connection: sa.Connection, releases: Iterable[tuple[Claim, int]]) -> None:
        """Give claims back, each due at its moment; those whose fence is no longer current stay as they are."""
        values = [
            {"b_id": claim.record.summary.saga_id, "b_fence": claim.fence, "b_next": due_at}
            for claim, due_at in releases
        ]
        self._sql.release.run_all(connection, sorted(values, key=lambda values: values["b_id"]))

    def leave(self, connection: sa.Connection, owner: str) -> None:
        """Forget an incarnation that ends in good order: what it may still own is free from now on."""
        connection.execute(self._sql.leave, {"b_id": owner})

    def load(self, connection: sa.Connection, saga_id: str) -> SagaRecord:
        """Read a whole saga. Raises `SagaNotFound`, and `CorruptRecord` if it is damaged."""
        rows = self._sql.load.read(connection, {"b_id": saga_id})
        if not rows:
            raise SagaNotFound(saga_id)
        return record_of(rows[0], self._sql.log.read(connection, {"b_id": saga_id}))

    def find(
        self, connection: sa.Connection, names: Iterable[str], states: Iterable[SagaState], limit: int, after: str
    ) -> list[SagaSummary]:
        """List summaries by id. A query for each name and state, since each then reads no more rows than it returns."""
        wanted: Sequence[str | None] = sorted(set(names)) or [None]
        chosen: Sequence[str | None] = _texts(states) or (_texts(SagaState) if wanted != [None] else [None])
        limit = max(limit, 0)
        rows = itertools.chain.from_iterable(
            connection.execute(self._sql.find(name, state, limit, after)).all() for name in wanted for state in chosen
        )
        return [summary_of(row) for row in sorted(rows, key=lambda row: str(row.id))[:limit]]

    def purge(self, connection: sa.Connection, before: int, states: Iterable[SagaState], limit: int) -> int:
        """Delete sagas that ended long ago, the oldest first."""
        limit = max(limit, 0)
        rows = itertools.chain.from_iterable(
            connection.execute(self._sql.ended, {"b_state": state, "b_before": before, "b_limit": limit}).all()
            for state in _texts(states)
        )
        oldest = sorted(rows, key=lambda row: (row.ended_at, row.id))[:limit]
        values = sorted(({"b_id": row.id} for row in oldest), key=lambda values: str(values["b_id"]))
        if values:
            for statement in self._sql.delete:
                connection.execute(statement, values)
        return len(values)

    def _mark_dead(self, connection: sa.Connection, now: int) -> None:
        connection.execute(self._sql.mark_dead, {"b_now": now})

    def _claimed(self, connection: sa.Connection, saga_id: str, now: int) -> Claim:
        record = self.load(connection, saga_id)
        return Claim(record, record.summary.fence, now)

    def _why_not_claimed(self, connection: sa.Connection, saga_id: str) -> Exception:
        rows = self._sql.load.read(connection, {"b_id": saga_id})
        if not rows:
            return SagaNotFound(saga_id)
        row = rows[0]
        if row.owner_label is not None:
            return SagaAlreadyRunning(saga_id, row.owner_label)
        return OperationRefused(saga_id, "claim", f"it is {row.state}")


def _texts(states: Iterable[SagaState]) -> list[str]:
    return sorted({state.value for state in states})
