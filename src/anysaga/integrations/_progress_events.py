"""A saga's stored log as the events that somebody who watches it is told. Pure: values in, values out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import define, field

from anysaga._definition import Definition, steps_in
from anysaga._nodes import source_of
from anysaga._records import Entry, EntryKind, Outcome, SagaRecord, SagaState, frozen

BEFORE_ALL = -1
"""What somebody has seen who has seen nothing: `start` has the number 0, and the entries of a log begin with 1."""


@frozen
class ProgressEvent:
    """One thing to tell. `id` is the seq of the log's entry that tells it.

    It is None where another event of the same entry follows: who saw only the first of them is told both again.
    """

    id: int | None
    data: dict[str, Any] = field(hash=False)

    def as_text(self) -> str:
        """The event as `text/event-stream` has it."""
        number = "" if self.id is None else f"id: {self.id}\n"
        return f"{number}data: {json.dumps(self.data, separators=(',', ':'))}\n\n"


def start_event(saga_id: str, name: str, outline: str) -> ProgressEvent:
    """What is told first: which saga this is, and the names of its steps in the order of their declaration."""
    steps = list(_names(outline).values())
    return ProgressEvent(0, {"type": "start", "saga_id": saga_id, "saga": name, "steps": steps})


def progress_events(
    record: SagaRecord, definition: Definition | None = None, *, after: int = BEFORE_ALL
) -> list[ProgressEvent]:
    """What is to be told of a saga to somebody who has seen all up to the entry `after`.

    Each step that is done, each that is undone, why the saga did not complete, and its end. Responses are told where
    `definition` fits the log, and says that there is nothing secret in them.
    """
    summary = record.summary
    found = [] if after >= 0 else [start_event(summary.saga_id, summary.name, record.outline)]
    found += [event for event in _Telling.of(record, definition).events(record) if (event.id or 0) > after]
    return [
        ProgressEvent(None, event.data) if following is not None and following.id == event.id else event
        for event, following in zip(found, [*found, None][1:], strict=True)
    ]


@define(eq=False)
class _Telling:
    """What must be remembered from one entry to the next to say what they mean to who watches."""

    saga_id: str
    names: dict[str, str]
    definition: Definition | None
    attempts: dict[str, int] = field(factory=dict)
    done: set[str] = field(factory=set)
    undoing: set[str] = field(factory=set)

    @classmethod
    def of(cls, record: SagaRecord, definition: Definition | None) -> _Telling:
        summary = record.summary
        fits = definition is not None and not definition.difference(summary.name, summary.version, record.outline)
        return cls(summary.saga_id, _names(record.outline), definition if fits else None)

    def events(self, record: SagaRecord) -> Iterator[ProgressEvent]:
        """All of them, each with the seq of its entry."""
        for entry in record.entries:
            data = self._told(entry)
            if data is not None:
                yield ProgressEvent(entry.seq, data)
        state = record.summary.state
        if state.is_end:
            yield ProgressEvent(record.summary.seq, {"type": "end", "saga_id": self.saga_id, "state": state.value})

    def _told(self, entry: Entry) -> dict[str, Any] | None:
        match entry.kind, entry.outcome:
            case EntryKind.STARTED, _:
                self.attempts[entry.path] = entry.attempt
            case EntryKind.UNDO_STARTED, _:
                self.undoing.add(entry.path)
            case (EntryKind.DONE, _) | (EntryKind.PROBED | EntryKind.RESOLVED, Outcome.DONE):
                return self._step(entry)
            case (EntryKind.UNDONE, _) | (EntryKind.RESOLVED, Outcome.NOT_DONE):
                return self._compensation(entry)
            case (EntryKind.PARKED | EntryKind.COMPENSATED | EntryKind.ABANDONED) as kind, _:
                return self._error(entry, SagaState(kind.value))
            case _:
                pass
        return None

    def _step(self, entry: Entry) -> dict[str, Any] | None:
        if entry.path in self.done:
            return None
        self.done.add(entry.path)
        data = {
            **self._at(entry, "step"),
            "attempts": self.attempts.get(entry.path, entry.attempt),
            "duration": entry.duration,
            "source": source_of(entry.path),
        }
        if self._shows(entry) and entry.response:
            with suppress(ValueError):  # it was damaged; who drives the saga finds out, and parks it
                data["response"] = json.loads(entry.response)
        return data

    def _shows(self, entry: Entry) -> bool:
        leaf = None if self.definition is None else self.definition.by_path.get(entry.path)
        return leaf is not None and not leaf.response.has_secrets

    def _compensation(self, entry: Entry) -> dict[str, Any] | None:
        if entry.path not in self.undoing:
            return None
        self.undoing.remove(entry.path)
        return {**self._at(entry, "compensation"), "duration": entry.duration}

    def _error(self, entry: Entry, state: SagaState) -> dict[str, Any]:
        return {**self._at(entry, "error"), "state": state.value, "error": entry.error}

    def _at(self, entry: Entry, kind: str) -> dict[str, Any]:
        where = {"step": self.names.get(entry.path, entry.path), "path": entry.path} if entry.path else {}
        return {"type": kind, "saga_id": self.saga_id, **where}


def _names(outline: str) -> dict[str, str]:
    try:
        return {path: name for path, name, _ in steps_in(outline)}
    except ValueError:
        return {}  # it was damaged, and the saga is parked for that
