"""Rows of the tables to records and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from anysaga._errors import CorruptRecord
from anysaga._records import Entry, EntryKind, NewSaga, Outcome, SagaRecord, SagaState, SagaSummary, Write
from anysaga.storages._clock import microseconds

Row = tuple[Any, ...]
"""Values in the order of the columns."""


def saga_row(new: NewSaga, owner: str, now: int) -> Row:
    """The row of a saga that begins, owned from the start."""
    state = new.state
    after = new.entries[-1].seq if new.entries else 0
    ended = now if state.is_end else None
    live = 0 if state.is_end else 1
    return (
        *(new.saga_id, new.name, new.version, state.value, live, owner, 1, after, 1),
        *(now, now, now, deadline_of(new, now), ended, None),
    )


def deadline_of(new: NewSaga, now: int) -> int | None:
    """When the time of a saga that begins now is over."""
    return None if new.timeout is None else now + microseconds(new.timeout)


def start_row(new: NewSaga) -> Row:
    """The row of what a saga begins with."""
    return new.saga_id, new.outline, new.digest, new.context


def entry_rows(saga_id: str, entries: Iterable[Entry], now: int) -> list[Row]:
    """The rows of entries that are committed now."""
    return [
        (
            saga_id,
            entry.seq,
            entry.kind.value,
            entry.path,
            entry.attempt,
            entry.context,
            entry.response,
            entry.error,
            None if entry.outcome is None else entry.outcome.value,
            entry.wait,
            entry.caught,
            entry.duration,
            entry.fence,
            now,
        )
        for entry in entries
    ]


ADVANCES: dict[str, Any] = {
    "b_id": sa.String(),
    "b_fence": sa.BigInteger(),
    "b_before": sa.BigInteger(),
    "b_after": sa.BigInteger(),
    "b_state": sa.String(),
    "b_live": sa.SmallInteger(),
    "b_now": sa.BigInteger(),
    "b_ended": sa.BigInteger(),
    "b_next": sa.BigInteger(),
    "b_note": sa.Text(),
    "b_settles": sa.Integer(),
    "b_frees": sa.Integer(),
}
"""What a write brings along for its saga's row, and of which types."""


def advance_row(write: Write, now: int) -> Row:
    """What a write makes of its saga's row, and the position it has to find there: the values of `ADVANCES`."""
    state = write.state
    is_end = state.is_end
    return (
        write.saga_id,
        write.fence,
        write.before,
        write.after,
        state.value,
        0 if is_end else 1,
        now,
        now if is_end else None,
        now + microseconds(write.wait) if write.wait else now,
        write.note if is_end else None,
        1 if write.settles else 0,
        1 if write.frees else 0,
    )


def summary_of(row: Any) -> SagaSummary:
    """A summary. Raises `CorruptRecord` if it is none."""
    try:
        return SagaSummary(
            saga_id=row.id,
            name=row.name,
            version=row.version,
            state=SagaState(row.state),
            fence=row.fence,
            seq=row.seq,
            owner=row.owner_label,
            claims=row.claims,
            created_at=row.created_at,
            updated_at=row.updated_at,
            next_attempt_at=row.next_attempt_at,
            deadline=row.deadline,
            note=row.note,
        )
    except ValueError as error:
        raise CorruptRecord(row.id, str(error)) from error


def entry_of(row: Any) -> Entry:
    """An entry. Raises `CorruptRecord` if it is none."""
    try:
        return Entry(
            kind=EntryKind(row.kind),
            path=row.path,
            attempt=row.attempt,
            context=row.context,
            response=row.response,
            error=row.error,
            outcome=None if row.outcome is None else Outcome(row.outcome),
            wait=row.wait,
            caught=row.caught,
            duration=row.duration,
            seq=row.seq,
            fence=row.fence,
            at=row.at,
        )
    except ValueError as error:
        raise CorruptRecord(row.saga_id, f"entry {row.seq}: {error}") from error


def record_of(row: Any, entries: Iterable[Any]) -> SagaRecord:
    """A whole record, with its `problem` if its log is damaged. Raises `CorruptRecord` if its row is."""
    log: list[Entry] = []
    problem: str | None = None
    try:
        log.extend(map(entry_of, entries))
        if row.context is None:
            problem = "what it began with is missing"
        elif not row.seq == len(log) == (log[-1].seq if log else 0):
            problem = f"its log should have entries 1 to {row.seq}"
    except CorruptRecord as error:
        problem = error.reason
    damage = None if problem is None else str(CorruptRecord(row.id, problem))
    return SagaRecord(summary_of(row), row.outline or "[]", row.digest or "", row.context or "null", tuple(log), damage)


def whole_number(value: object) -> int:
    """The value of a column of numbers. SQLite keeps anything there, and counts from 0 where it is no number."""
    return value if isinstance(value, int) else 0
