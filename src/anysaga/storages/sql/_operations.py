"""What a store does, each verb a plain function of a connection inside a transaction that somebody else runs.

What goes in batches is in `_writes`.

Every function is true for any database that SQLAlchemy speaks to, once the transaction is serialised with the others
that write. Moments are handed in: the clock is the database's affair. Rows are always read to their end, since SQLite
keeps to an old snapshot for as long as a cursor is open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from anysaga._errors import (
    CorruptRecord,
    OperationRefused,
    SagaAlreadyRunning,
    SagaNotFound,
)
from anysaga._records import Claim, SagaRecord, SagaState, SagaSummary
from anysaga.storages._clock import microseconds
from anysaga.storages._lease import Orphan
from anysaga.storages.rules import patience
from anysaga.storages.sql._prepared import execute_all
from anysaga.storages.sql._rows import record_of, summary_of, whole_number
from anysaga.storages.sql._statements import MOST_IDS, Statements

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
        long_ago = expires_at - microseconds(86_400)
        dead = connection.execute(self._sql.long_dead, {"b_before": long_ago}).scalars().all()
        if dead:
            connection.execute(self._sql.leave, [{"b_id": each} for each in dead])
        values = {"id": owner, "label": label, "expires_at": expires_at, "dead": 0}
        connection.execute(self._sql.insert_owner, values)

    def claim(
        self, connection: sa.Connection, saga_id: str, states: Iterable[SagaState], owner: str, now: int
    ) -> list[Claim]:
        """Claim one free saga, or raise why not."""
        self._mark_dead(connection, now)
        found = connection.execute(self._sql.lock, {"b_id": saga_id}).first()
        if found is None:
            raise SagaNotFound(saga_id)
        holder = self._living(connection, [found.owner]).get(found.owner)
        if holder is not None:
            raise SagaAlreadyRunning(saga_id, holder)
        if found.state not in _texts(states):
            raise OperationRefused(saga_id, "claim", f"it is {found.state}")
        connection.execute(self._sql.claim, {"b_id": saga_id, "b_owner": owner})
        return [_claim_on(self.load(connection, saga_id), now)]

    def claim_due(
        self, connection: sa.Connection, names: Iterable[str], limit: int, owner: str, now: int
    ) -> list[Claim]:
        """Claim the sagas that are due the longest. One that cannot be read is parked, and does not stop the others."""
        self._mark_dead(connection, now)
        values = {"b_names": sorted(set(names)), "b_now": now, "b_limit": min(max(limit, 0), _MOST_AT_ONCE)}
        due = connection.execute(self._sql.due, values).all()
        living = self._living(connection, [row.owner for row in due])
        due = [row for row in due if row.owner not in living]
        if not due:
            return []
        claimed = {row.id: whole_number(row.claims) for row in due}
        for count in sorted(set(claimed.values())):  # most often the same for all
            ids = [saga_id for saga_id in claimed if claimed[saga_id] == count]
            taken = {"b_ids": ids, "b_owner": owner, "b_next": now + patience(count + 1)}
            connection.execute(self._sql.claim_due, taken)
        claims: list[Claim] = []
        for found in self._load_all(connection, [row.id for row in due]):
            if isinstance(found, SagaRecord):
                claims.append(_claim_on(found, now))
            else:
                connection.execute(self._sql.park, {"b_id": found.saga_id, "b_now": now, "b_note": str(found)})
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
        execute_all(connection, (self._sql.release, sorted(values, key=lambda values: values["b_id"])))

    def disown(self, connection: sa.Connection, orphans: Iterable[Orphan], now: int) -> None:
        """Free sagas of an owner who does not know of them."""
        values = [
            {"b_id": each.saga_id, "b_fence": each.fence, "b_owner": each.owner, "b_next": now} for each in orphans
        ]
        execute_all(connection, (self._sql.disown, sorted(values, key=lambda values: values["b_id"])))

    def leave(self, connection: sa.Connection, owner: str) -> None:
        """Forget an incarnation that ends in good order: what it may still own is free from now on."""
        connection.execute(self._sql.leave, {"b_id": owner})

    def load(self, connection: sa.Connection, saga_id: str) -> SagaRecord:
        """Read a whole saga. Raises `SagaNotFound`, and `CorruptRecord` if it is damaged."""
        for found in self._load_all(connection, [saga_id]):
            if isinstance(found, SagaRecord):
                return found
            raise found
        raise SagaNotFound(saga_id)

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
        expired = connection.execute(self._sql.expired, {"b_before": now}).scalars().all()
        if expired:
            connection.execute(self._sql.mark_dead, [{"b_id": owner} for owner in expired])

    def _living(self, connection: sa.Connection, owners: Iterable[str | None]) -> dict[str | None, str]:
        """The labels of those that live, as it is now that their sagas are locked.

        What a query sees that waits for a lock, or skips it, can be older than what it then finds there.
        """
        ids = sorted({owner for owner in owners if owner is not None})
        if not ids:
            return {}
        return {row.id: row.label for row in connection.execute(self._sql.living, {"b_ids": ids})}

    def _load_all(self, connection: sa.Connection, ids: Sequence[str]) -> Iterator[SagaRecord | CorruptRecord]:
        """Whole sagas, in the order of `ids`; instead of those that are damaged, what is wrong with them."""
        for start in range(0, len(ids), MOST_IDS):
            some = ids[start : start + MOST_IDS]
            query, logs, values = self._sql.loads(some)
            rows = {row.id: row for row in query.read(connection, values)}
            entries: dict[str, list[Any]] = {}
            for entry in logs.read(connection, values):
                entries.setdefault(entry.saga_id, []).append(entry)
            for saga_id in some:
                if saga_id in rows:
                    yield _read(rows[saga_id], entries.get(saga_id, []))


def _read(row: Any, entries: Sequence[Any]) -> SagaRecord | CorruptRecord:
    try:
        return record_of(row, entries)
    except CorruptRecord as error:
        return error


def _claim_on(record: SagaRecord, now: int) -> Claim:
    return Claim(record, record.summary.fence, now)


def _texts(states: Iterable[SagaState]) -> list[str]:
    return sorted({state.value for state in states})
