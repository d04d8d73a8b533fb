"""The sagas of a `MemoryStorage`, shared by its incarnations, and every change that happens to them."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Self

from attrs import define, field

from anysaga._errors import AnysagaError, SagaNotFound, StaleFence
from anysaga._records import Claim, Entry, NewSaga, SagaRecord, SagaState, SagaSummary, Write
from anysaga.storages._clock import Clock, microseconds
from anysaga.storages._forks import ForkLock, survive_forks
from anysaga.storages._letters import Letters
from anysaga.storages.rules import patience, same_entries


@define(eq=False, repr=False)
class Incarnation:
    """One owner of sagas: a `MemoryStorage` object until it is closed, killed or dropped."""

    label: str
    alive: bool = True
    claims: dict[str, Claim] = field(factory=dict[str, Claim])

    def end(self) -> list[Claim]:
        """Die for ever. Returns the claims that are lost with it."""
        self.alive = False
        lost = list(self.claims.values())
        self.claims.clear()
        return lost


@define(eq=False, repr=False)
class StoredSaga:
    """One saga as it stands."""

    new: NewSaga
    state: SagaState
    created_at: int
    updated_at: int
    next_attempt_at: int
    deadline: int | None
    owner: Incarnation | None = None
    fence: int = 0
    seq: int = 0
    claims: int = 0
    note: str | None = None
    entries: list[Entry] = field(factory=list[Entry])
    moments: list[int] = field(factory=list[int])

    @property
    def holder(self) -> Incarnation | None:
        """The living owner, if there is one."""
        return self.owner if self.owner is not None and self.owner.alive else None

    def summary(self) -> SagaSummary:
        new, holder = self.new, self.holder
        return SagaSummary(
            new.saga_id,
            new.name,
            new.version,
            self.state,
            self.fence,
            self.seq,
            None if holder is None else holder.label,
            self.claims,
            self.created_at,
            self.updated_at,
            self.next_attempt_at,
            self.deadline,
            self.note,
        )

    def record(self) -> SagaRecord:
        new = self.new
        # Moments are kept apart from their entries because most logs are written and never read.
        entries = tuple(map(Entry.stamped, self.entries, self.moments))
        return SagaRecord(self.summary(), new.outline, new.digest, new.context, entries)

    def append(self, entries: tuple[Entry, ...], now: int) -> None:
        if not entries:
            return
        self.entries += entries
        self.moments += [now] * len(entries)
        self.seq = entries[-1].seq

    def take(self, owner: Incarnation, now: int) -> Claim:
        self.owner = owner
        self.fence += 1
        self.claims += 1
        claim = Claim(self.record(), self.fence, now)
        owner.claims[self.new.saga_id] = claim
        return claim

    def free(self) -> None:
        if self.owner is not None:
            self.owner.claims.pop(self.new.saga_id, None)
        self.owner = None


@define(eq=False, repr=False)
class Shelf:
    """All sagas, behind one lock: every method is called inside ``with shelf``, but for `defer`.

    Inside ``with shelf.turn.lock`` for `create` and `record`: that runs no Python of ours, and neither depends on what
    was deferred, which is by others. Whoever looks at the sagas, or claims one, does it first.

    `live` keeps the search for due sagas off those that have ended.
    """

    clock: Clock
    sagas: dict[str, StoredSaga] = field(factory=dict[str, StoredSaga])
    live: dict[str, StoredSaga] = field(factory=dict[str, StoredSaga])
    circuits: dict[str, tuple[int, str]] = field(factory=dict[str, tuple[int, str]])
    letters: Letters = field(factory=Letters)
    turn: ForkLock = field(factory=ForkLock)
    _deferred: deque[Write | Claim] = field(factory=deque[Write | Claim])

    def __attrs_post_init__(self) -> None:
        survive_forks(self)

    def __enter__(self) -> Self:
        self.turn.lock.acquire()
        if self._deferred:
            self._drain()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.turn.lock.release()

    def defer(self, work: Write | Claim) -> None:
        """Record or release now if the lock is free, else before anybody else sees the sagas.

        A finalizer may run in the very thread that holds the lock, so this must not wait for it.
        """
        self._deferred.append(work)
        if not self.turn.lock.acquire(blocking=False):
            return
        try:
            self._drain()
        finally:
            self.turn.lock.release()

    def pause(self) -> None:
        """Keep the sagas whole for the moment of a fork, and the lock in known hands."""
        self.turn.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.turn.resume()

    def forget_parent(self) -> None:
        """Begin anew in a forked child, on a copy of the sagas."""
        self.turn.forget_parent()
        self.letters.watchers.forget()

    def get(self, saga_id: str) -> StoredSaga:
        try:
            return self.sagas[saga_id]
        except KeyError:
            raise SagaNotFound(saga_id) from None

    def create(self, new: NewSaga, owner: Incarnation) -> Claim | None:
        if new.saga_id in self.sagas:
            return None
        now = self.clock.now()
        deadline = None if new.timeout is None else now + microseconds(new.timeout)
        saga = StoredSaga(new, new.state, now, now, now, deadline)
        saga.append(new.entries, now)
        self.sagas[new.saga_id] = saga
        self._enter_state(saga, new.state)
        return saga.take(owner, now)

    def take_due(self, names: frozenset[str], limit: int, owner: Incarnation) -> list[Claim]:
        now = self.clock.now()
        due = (
            saga
            for saga in self.live.values()
            if saga.next_attempt_at <= now and saga.holder is None and saga.new.name in names
        )
        chosen = heapq.nsmallest(limit, due, key=lambda saga: (saga.next_attempt_at, saga.new.saga_id))
        for saga in chosen:
            saga.next_attempt_at = now + patience(saga.claims + 1)
        return [saga.take(owner, now) for saga in chosen]

    def record(self, write: Write) -> int:
        saga = self.get(write.saga_id)
        if saga.fence != write.fence or saga.seq != write.entries[0].seq - 1:
            return _recorded_before(saga, write)
        now = self.clock.now()
        frees = write.frees
        saga.append(write.entries, now)
        saga.updated_at = now
        saga.next_attempt_at = now + microseconds(write.wait) if write.wait else now
        saga.note = write.note if frees else None
        if saga.state is not write.state:
            self._enter_state(saga, write.state)
        if write.has_events:
            self.letters.enter(write, now)
        if saga.claims and write.settles:
            saga.claims = 0
        if frees:
            saga.free()
        return now

    def release(self, claim: Claim, wait: float) -> None:
        saga = self.sagas.get(claim.record.summary.saga_id)
        if saga is None or saga.fence != claim.fence or saga.owner is None:
            return
        saga.claims = max(saga.claims - 1, 0)
        saga.next_attempt_at = self.clock.now() + microseconds(wait)
        saga.free()

    def purge(self, before: int, states: frozenset[SagaState], limit: int) -> int:
        ended = (
            saga
            for saga in self.sagas.values()
            if saga.state in states and saga.updated_at < before and not self.letters.has_any_of(saga.new.saga_id)
        )
        oldest = heapq.nsmallest(limit, ended, key=lambda saga: (saga.updated_at, saga.new.saga_id))
        for saga in oldest:
            saga.free()
            del self.sagas[saga.new.saga_id]
        return len(oldest)

    def _enter_state(self, saga: StoredSaga, state: SagaState) -> None:
        saga.state = state
        if state.is_end:
            self.live.pop(saga.new.saga_id, None)
        else:
            self.live[saga.new.saga_id] = saga

    def _drain(self) -> None:
        while self._deferred:
            work = self._deferred.popleft()
            if isinstance(work, Claim):
                self.release(work, 0.0)
                continue
            try:
                self.record(work)
            except AnysagaError:
                continue  # not eligible any more: the contract says to forget it


def _recorded_before(saga: StoredSaga, write: Write) -> int:
    stored = saga.entries[-len(write.entries) :]
    if saga.seq != write.after or not same_entries(stored, write.entries):
        raise StaleFence(write.saga_id, write.fence)
    return saga.moments[-1]
