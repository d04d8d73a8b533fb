"""What goes in batches: sagas that begin, writes, and claims given back; many sagas in one transaction.

Plain functions of a connection, like `_operations`. A batch has each saga once. What fits is found out first, in the
order of ids; then each statement goes to the driver once for all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import sqlalchemy as sa
from attrs import frozen

from anysaga._records import Claim, NewSaga, SagaRecord, SagaSummary, Write
from anysaga.storages.rules import same_entries
from anysaga.storages.sql._outbox import OutboxRows
from anysaga.storages.sql._prepared import Prepared, execute_all
from anysaga.storages.sql._rows import advance_row, deadline_of, entry_of, entry_rows, saga_row, start_row
from anysaga.storages.sql._statements import MOST_IDS, Statements

Position = tuple[int, int]
"""Fence and seq of a saga."""


@frozen
class Refusal:
    """A write was not eligible. `fence` is the saga's current one, or None if there is no such saga."""

    fence: int | None


class Misfit(Exception):
    """Not everything in a batch fits, as was hoped for: it has to be looked at first."""


class Writes:
    """The batched verbs on the tables of one prefix."""

    def __init__(self, statements: Statements, outbox: OutboxRows) -> None:
        self._sql = statements
        self._outbox = outbox

    def positions(self, connection: sa.Connection, ids: Iterable[str]) -> dict[str, Position]:
        """Where these sagas stand. Those that are missing are not there."""
        return _positions(connection, ids, self._sql.positions)

    def lock(self, connection: sa.Connection, ids: Iterable[str]) -> dict[str, Position]:
        """The same, and nobody else changes them before this transaction ends.

        Those that another transaction has locked are missing, too. Where there is one writer at a time there are none.
        """
        return _positions(connection, ids, self._sql.locked_positions)

    @property
    def go_at_once(self) -> bool:
        """Whether there is a statement that is a transaction of its own for `write_at_once`."""
        return self._sql.at_once is not None

    def write_at_once(
        self, connection: sa.Connection, new: Iterable[NewSaga], writes: Iterable[Write], owner: str, label: str
    ) -> tuple[dict[str, Claim], dict[str, int]]:
        """Enter sagas, and record writes without events, as far as all is as it should be; what is not is left out.

        Returns the claims on the sagas, and when each write was recorded, by id.
        """
        assert self._sql.at_once is not None  # noqa: S101 - else nothing goes at once
        fresh = sorted(new, key=lambda each: each.saga_id)
        ordered = sorted(writes, key=lambda each: each.saga_id)
        written = self._sql.at_once.write(connection, fresh, ordered, owner)
        now = written.now
        claims = {each.saga_id: _first_claim(each, label, now) for each in fresh} if written.begins else {}
        return claims, dict.fromkeys(written.forward, now)

    def insert(
        self, connection: sa.Connection, new: Iterable[NewSaga], owner: str, label: str, now: int
    ) -> dict[str, Claim]:
        """Enter sagas whose ids are not taken, with their first entries. Returns the claims on them by id."""
        ordered = sorted(new, key=lambda each: each.saga_id)
        sagas = [saga_row(each, owner, now) for each in ordered]
        starts = [start_row(each) for each in ordered]
        entries = [row for each in ordered for row in entry_rows(each.saga_id, each.entries, now)]
        sql = self._sql
        execute_all(connection, (sql.insert_sagas, sagas), (sql.insert_starts, starts), (sql.insert_entries, entries))
        return {each.saga_id: _first_claim(each, label, now) for each in ordered}

    def record_one(self, connection: sa.Connection, write: Write, now: int) -> int | Refusal:
        """Append the entries of a single write and set the state; returns the moment. Two statements."""
        if self._sql.advance.run(connection, advance_row(write, now)) == 0:
            position = self.positions(connection, [write.saga_id]).get(write.saga_id)
            return self._recorded_before(connection, write, position)
        entries = entry_rows(write.saga_id, write.entries, now)
        execute_all(connection, (self._sql.insert_entries, entries), *self._outbox.entering([write], now))
        return now

    def record_all(
        self, connection: sa.Connection, writes: Iterable[Write], positions: Mapping[str, Position], now: int
    ) -> dict[str, int | Refusal]:
        """The same for many, of which the positions are known. Returns what became of each, by id."""
        results: dict[str, int | Refusal] = {}
        fitting: list[Write] = []
        for write in sorted(writes, key=lambda write: write.saga_id):
            position = positions.get(write.saga_id)
            if position == (write.fence, write.before):
                fitting.append(write)
                results[write.saga_id] = now
            else:
                results[write.saga_id] = self._recorded_before(connection, write, position)
        self._record_fitting(connection, fitting, now)
        return results

    def record_hopefully(
        self, connection: sa.Connection, writes: Iterable[Write], now: int
    ) -> dict[str, int | Refusal]:
        """The same without looking first. Raises `Misfit` if any of them does not fit, or cannot be locked at once."""
        fitting = sorted(writes, key=lambda write: write.saga_id)
        if self._record_fitting(connection, fitting, now) != len(fitting):
            raise Misfit
        return dict.fromkeys((write.saga_id for write in fitting), now)

    def _record_fitting(self, connection: sa.Connection, writes: Sequence[Write], now: int) -> int:
        changes = [advance_row(write, now) for write in writes]
        entries = [row for write in writes for row in entry_rows(write.saga_id, write.entries, now)]
        events = self._outbox.entering(writes, now)
        advance = self._sql.advance if len(writes) == 1 else self._sql.advance_all
        return execute_all(connection, (advance, changes), (self._sql.insert_entries, entries), *events)[0]

    def _recorded_before(self, connection: sa.Connection, write: Write, position: Position | None) -> int | Refusal:
        if position is None:
            return Refusal(None)
        fence, seq = position
        if seq != write.after:
            return Refusal(fence)
        values = {"b_id": write.saga_id, "b_first": write.before + 1}
        stored = [entry_of(entry) for entry in self._sql.tail.read(connection, values)]
        return stored[-1].at if same_entries(stored, write.entries) else Refusal(fence)


def _positions(
    connection: sa.Connection,
    ids: Iterable[str],
    query_of: Callable[[Sequence[str]], tuple[Prepared, dict[str, str]]],
) -> dict[str, Position]:
    ordered = sorted(ids)
    found: dict[str, Position] = {}
    for start in range(0, len(ordered), MOST_IDS):
        query, values = query_of(ordered[start : start + MOST_IDS])
        found.update((saga_id, (fence, seq)) for saga_id, fence, seq in query.fetch(connection, values))
    return found


def _first_claim(new: NewSaga, label: str, now: int) -> Claim:
    summary = SagaSummary(
        saga_id=new.saga_id,
        name=new.name,
        version=new.version,
        state=new.state,
        fence=1,
        seq=new.entries[-1].seq if new.entries else 0,
        owner=label,
        claims=1,
        created_at=now,
        updated_at=now,
        next_attempt_at=now,
        deadline=deadline_of(new, now),
    )
    log = tuple(entry.stamped(now) for entry in new.entries)
    return Claim(SagaRecord(summary, new.outline, new.digest, new.context, log), summary.fence, now)
