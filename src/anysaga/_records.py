"""What a store keeps of a saga: values of text and numbers, no classes of a user, no sessions.

Ground floor: imports nothing of ours but limits. Moments are integers, microseconds since the epoch in UTC, by the
store's clock. Spans are floats, seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, field

from anysaga._limits import MAX_EVENTS

if TYPE_CHECKING:
    from attrs import frozen as frozen  # noqa: PLC0414 - for other files, too
else:
    # Nobody changes a value, and type checkers hold that. Python is not asked to: making a frozen object takes four
    # times as long, and a saga makes some thirty.
    frozen = partial(define, unsafe_hash=True)


_AT_END = 1 << 48
"""Added to the positions of events that are held until the end; no log has so many entries."""


class SagaState(StrEnum):
    """Where a saga stands.

    `is_end` tells whether no worker picks the saga up: it is over, or (PARKED) waits for a person.
    """

    is_end: bool

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    PARKED = "PARKED"
    ABANDONED = "ABANDONED"

    def __init__(self, value: str) -> None:
        self.is_end = value not in ("PENDING", "RUNNING", "COMPENSATING")


LIVE_STATES = frozenset(state for state in SagaState if not state.is_end)


class Outcome(StrEnum):
    """What is known of a step's effect: it is there, it is not there, or nobody can say."""

    DONE = "DONE"
    NOT_DONE = "NOT_DONE"
    UNKNOWN = "UNKNOWN"


class EntryKind(StrEnum):
    """What an entry of a saga's log says. See `Entry` for the fields each kind uses."""

    STARTED = "STARTED"
    CHECKPOINT = "CHECKPOINT"
    DONE = "DONE"
    NOT_DONE = "NOT_DONE"
    UNKNOWN = "UNKNOWN"
    WITHDRAWN = "WITHDRAWN"
    PROBED = "PROBED"
    BACK = "BACK"
    UNDO_STARTED = "UNDO_STARTED"
    UNDONE = "UNDONE"
    UNDO_FAILED = "UNDO_FAILED"
    PARKED = "PARKED"
    RESOLVED = "RESOLVED"
    RETRIED = "RETRIED"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    ABANDONED = "ABANDONED"
    NOTE = "NOTE"


OUTCOME_KINDS = frozenset(
    {
        EntryKind.DONE,
        EntryKind.NOT_DONE,
        EntryKind.UNKNOWN,
        EntryKind.PROBED,
        EntryKind.BACK,
        EntryKind.UNDONE,
        EntryKind.UNDO_FAILED,
        EntryKind.RESOLVED,
        EntryKind.RETRIED,
    }
)
"""Kinds that show a saga moved: they set the count of claims back to zero."""


@frozen
class StoredEvent:
    """An event that a step recorded, as it enters the outbox: once for each of its destinations.

    `id` is equal however often it is sent. `type` is its name, `data` its fields as JSON text. `held`: it waits until
    the saga is completed, and is dropped if the saga comes to another end.
    """

    id: str
    type: str
    data: str = field(repr=False)
    saga: str
    step: str
    destinations: tuple[str, ...]
    held: bool = False


@frozen
class Entry:
    """One line of a saga's log.

    `path` names the step (``2``, ``2/fallback``, ``3/1``), or is empty for the whole saga. `attempt` counts from 1.
    `context` is JSON text, or None where the context did not change against the durable one the attempt began with.
    `response` is JSON text (DONE). `error` is what went wrong, in words, cut at `MAX_ERROR_BYTES`.
    `outcome` is the answer of a probe or of a person (PROBED, RESOLVED).
    `wait` (NOT_DONE, UNKNOWN, UNDO_FAILED): seconds until the next attempt may begin; None says that the policy
    refuses another attempt after this error. `caught` (NOT_DONE, UNKNOWN): the path of the primary that goes back if
    no other attempt follows, because its Fallback catches this error. `duration` is in seconds.
    `at` is set by the store when it commits. `events` (DONE, UNDONE) enter the outbox in the same commit; they are no
    part of the log, so an entry that was read has none.
    """

    kind: EntryKind
    path: str = ""
    attempt: int = 0
    context: str | None = field(default=None, repr=False)
    response: str | None = field(default=None, repr=False)
    error: str | None = None
    outcome: Outcome | None = None
    wait: float | None = None
    duration: float | None = None
    seq: int = 0
    fence: int = 0
    at: int = 0
    caught: str | None = None
    events: tuple[StoredEvent, ...] = field(default=(), eq=False, repr=False)

    def stamped(self, at: int) -> Entry:
        """The same entry as it is read, committed at the moment `at`: `attrs.evolve`, in a quarter of its time."""
        return Entry(
            self.kind,
            self.path,
            self.attempt,
            self.context,
            self.response,
            self.error,
            self.outcome,
            self.wait,
            self.duration,
            self.seq,
            self.fence,
            at,
            self.caught,
        )


@frozen
class NewSaga:
    """A saga that begins. `outline` is JSON text of its ordered ``[path, name, kind]`` rows; `digest` is of `context`.

    `timeout` is the saga's time limit in seconds from now on, or None.
    """

    saga_id: str
    name: str
    version: int
    outline: str
    digest: str
    context: str = field(repr=False)
    state: SagaState
    timeout: float | None = None
    entries: tuple[Entry, ...] = ()


@frozen
class SagaSummary:
    """A saga without its context and log, as `find` lists it.

    `owner` is the label of the incarnation that holds it, or None. `claims` counts claims since the last outcome.
    `note` is the error text of the entry that ended or parked it, or None.
    """

    saga_id: str
    name: str
    version: int
    state: SagaState
    fence: int
    seq: int
    owner: str | None
    claims: int
    created_at: int
    updated_at: int
    next_attempt_at: int
    deadline: int | None = None
    note: str | None = None


@frozen
class SagaRecord:
    """All that a store keeps of one saga. `summary.seq` is that of the last entry, 0 without entries.

    `problem` says why the log cannot be read (a kind of entry that this version does not know); the engine parks such
    a saga, so a store returns it with what it could read instead of failing.
    """

    summary: SagaSummary
    outline: str
    digest: str
    context: str = field(repr=False)
    entries: tuple[Entry, ...] = ()
    problem: str | None = None


@define(eq=False)
class Claim:
    """The right to write for a saga, as long as `fence` is its current one.

    `now` is the store's time at the claim. The store calls `lose` (from any thread) once it learns that the lease
    cannot be kept any more; the owner then stops at once and undoes nothing.
    """

    record: SagaRecord
    fence: int
    now: int
    lost: bool = field(default=False, init=False)
    _watchers: list[Callable[[], None]] = field(factory=list, init=False, repr=False)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called once, from any thread, when the claim is lost (at once if it already is)."""
        self._watchers.append(watcher)
        if self.lost:
            self._tell()

    def lose(self) -> None:
        """Mark the claim as lost and tell those who watch. Safe to call twice and from any thread."""
        self.lost = True
        self._tell()

    def forget_log(self) -> None:
        """Keep only the summary of the record: somebody has taken up the saga, which may be long in flight."""
        self.record = SagaRecord(self.record.summary, "", "", "")

    def _tell(self) -> None:
        while True:
            try:
                watcher = self._watchers.pop()  # atomic, so each is called once though two threads come here
            except IndexError:
                return
            watcher()


@frozen
class Write:
    """One commit of one saga's log: all of `entries` or none.

    Their seqs are consecutive. `state` is the saga's state from now on. `wait` (seconds) is how long nobody needs to
    look at the saga. `release` gives the claim back in the same commit; an end state does so by itself. `held`: there
    may be events that wait for the end of the saga.
    """

    saga_id: str
    fence: int
    entries: tuple[Entry, ...]
    state: SagaState
    wait: float = 0.0
    release: bool = False
    held: bool = False

    @property
    def before(self) -> int:
        """The seq that the saga has when this write is its next one."""
        return self.entries[0].seq - 1

    @property
    def after(self) -> int:
        """The seq that the saga has once this write is durable."""
        return self.entries[-1].seq

    @property
    def frees(self) -> bool:
        """Whether the saga has no owner after this write."""
        return self.release or self.state.is_end

    @property
    def settles(self) -> bool:
        """Whether the count of claims goes back to zero: an outcome was recorded."""
        for entry in self.entries:  # noqa: SIM110 - asked at every commit: `any` would take three times as long
            if entry.kind in OUTCOME_KINDS:
                return True
        return False

    @property
    def events(self) -> list[tuple[int, StoredEvent]]:
        """What enters the outbox in this commit, each with its position among the events of the saga.

        What is held comes after all that is not: it is let go when the others may be on their way, or dead.
        """
        return [
            (entry.seq * MAX_EVENTS + number + (_AT_END if event.held else 0), event)
            for entry in self.entries
            if entry.events
            for number, event in enumerate(entry.events)
        ]

    @property
    def has_events(self) -> bool:
        """Whether events are due once this is durable."""
        if self.held and self.frees_held:  # the quick question first: this is asked at every commit
            return True
        for entry in self.entries:  # noqa: SIM110 - as in `settles`
            if entry.events:
                return True
        return False

    @property
    def frees_held(self) -> bool:
        """Whether events that waited for the saga's end go now: they are due if it completed, and dropped if not."""
        return self.held and self.state.is_end and self.state is not SagaState.PARKED

    @property
    def note(self) -> str | None:
        """The text that `find` shows for a saga that this write ends, else None."""
        return self.entries[-1].error if self.state.is_end else None
