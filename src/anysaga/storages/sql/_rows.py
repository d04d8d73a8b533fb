"""Rows of the tables to records and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anysaga._errors import CorruptRecord
from anysaga._records import Entry, EntryKind, NewSaga, Outcome, SagaRecord, SagaState, SagaSummary, Write
from anysaga.storages._clock import microseconds

Values = dict[str, Any]


def saga_values(new: NewSaga, owner: str, now: int) -> Values:
    """The row of a saga that begins, owned from the start."""
    return {
        "id": new.saga_id,
        "name": new.name,
        "version": new.version,
        "state": new.state.value,
        "live": int(not new.state.is_end),
        "owner": owner,
        "fence": 1,
        "seq": new.entries[-1].seq if new.entries else 0,
        "claims": 1,
        "created_at": now,
        "updated_at": now,
        "next_attempt_at": now,
        "deadline": None if new.timeout is None else now + microseconds(new.timeout),
        "ended_at": now if new.state.is_end else None,
        "note": None,
    }


def entry_values(saga_id: str, entries: Iterable[Entry], now: int) -> list[Values]:
    """The rows of entries that are committed now."""
    return [
        {
            "saga_id": saga_id,
            "seq": entry.seq,
            "kind": entry.kind.value,
            "path": entry.path,
            "attempt": entry.attempt,
            "context": entry.context,
            "response": entry.response,
            "error": entry.error,
            "outcome": None if entry.outcome is None else entry.outcome.value,
            "wait": entry.wait,
            "caught": entry.caught,
            "duration": entry.duration,
            "fence": entry.fence,
            "at": now,
        }
        for entry in entries
    ]


def advance_values(write: Write, now: int) -> Values:
    """What a write makes of its saga's row, and the position it has to find there."""
    is_end = write.state.is_end
    return {
        "b_id": write.saga_id,
        "b_fence": write.fence,
        "b_before": write.before,
        "b_after": write.after,
        "b_state": write.state.value,
        "b_live": int(not is_end),
        "b_now": now,
        "b_ended": now if is_end else None,
        "b_next": now + microseconds(write.wait),
        "b_note": write.note,
        "b_settles": int(write.settles),
        "b_frees": int(write.frees),
    }


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
        elif row.seq != (log[-1].seq if log else 0):
            problem = f"its log should end with entry {row.seq}"
    except CorruptRecord as error:
        problem = error.reason
    damage = None if problem is None else str(CorruptRecord(row.id, problem))
    return SagaRecord(summary_of(row), row.outline or "[]", row.digest or "", row.context or "null", tuple(log), damage)
