"""The one writer of a saga: notes entries, folds them, and commits them together, strictly one write at a time."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from time import monotonic

import anyio
from anyio import CancelScope, current_time, get_cancelled_exc_class
from attrs import define, field

from anysaga._errors import StaleFence, StorageError, StorageUnavailable
from anysaga._folding import apply
from anysaga._progress import Progress
from anysaga._records import Claim, Entry, EntryKind, Outcome, SagaState, StoredEvent, Write
from anysaga._snapshot import fit_error
from anysaga.abc import Storage

RESEND_PAUSES = (0.05, 0.2, 1.0)
"""Seconds before the same write is sent again after the store did not answer."""


@define(eq=False, repr=False)
class Journal:
    """Keeps a saga's log for its owner.

    `note` folds an entry at once and `commit` makes all noted entries durable in one write. If a commit fails for
    good, the progress runs ahead of the store; so the journal is `closed` then, and its owner does nothing more but
    give the saga back.
    `holds_events`: there may be events that wait for the end of the saga. Of one that began elsewhere nobody knows.
    """

    storage: Storage
    progress: Progress
    saga_id: str
    claim: Claim | None = None
    seq: int = 0
    pending: list[Entry] = field(factory=list, init=False)
    closed: bool = field(default=False, init=False)
    holds_events: bool = field(init=False)
    _owes: bool = field(init=False)
    _began: float = field(factory=monotonic, init=False)
    _writing: bool = field(default=False, init=False)
    _written_event: anyio.Event | None = field(default=None, init=False)
    _failure: StorageError | None = field(default=None, init=False)
    _unreleased: Write | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._owes = self.holds_events = self.claim is not None

    def now(self) -> int:
        """The store's time in µs: that of the claim, and what has passed since on the monotonic clock."""
        if self.claim is None:
            return 0
        return self.claim.now + round((monotonic() - self._began) * 1_000_000)

    def until(self, moment: int) -> float:
        """The point of the loop's clock that is the store's `moment` (µs)."""
        return current_time() + (moment - self.now()) / 1_000_000

    def note(
        self,
        kind: EntryKind,
        path: str = "",
        *,
        attempt: int = 0,
        context: str | None = None,
        response: str | None = None,
        error: str | None = None,
        outcome: Outcome | None = None,
        wait: float | None = None,
        duration: float | None = None,
        caught: str | None = None,
        events: tuple[StoredEvent, ...] = (),
    ) -> None:
        """Say what happened, in the words of `Entry`. It counts at once here, and in the store with the next commit."""
        self.seq += 1
        said = None if error is None else fit_error(error)
        at = 0 if wait is None else self.now()
        fence = self.progress.fence
        # In the order of its fields, since keywords cost a third more here.
        entry = Entry(
            kind, path, attempt, context, response, said, outcome, wait, duration, self.seq, fence, at, caught, events
        )
        apply(self.progress, entry)
        self.pending.append(entry)

    def late_notes(self, reason: str) -> Callable[[str, str], None]:
        """A function that says, in any thread, what a step did after its saga was parked because of `reason`.

        Each time it says again what was said before, since the last entry speaks for the saga.
        """
        said, seq, fence, lock = reason, self.seq, self.progress.fence, threading.Lock()

        def note(path: str, words: str) -> None:
            nonlocal said, seq
            with lock:
                seq += 1
                said = f"{said}; step {self.progress.definition.name_at(path)!r} {words}"
                entry = Entry(EntryKind.NOTE, path, error=fit_error(said), seq=seq, fence=fence)
                self.storage.defer(Write(self.saga_id, fence, (entry,), SagaState.PARKED))

        return note

    def began(self, claim: Claim) -> None:
        """Take note that the saga was stored, with all that is noted."""
        self.claim = claim
        self.pending = []
        self._began = monotonic()
        self._owes = True

    @property
    def is_settled(self) -> bool:
        """Whether all that is noted is durable, so that `commit` has nothing to do."""
        return not self.pending and not self._writing

    def commit(self, *, wait: float = 0.0, release: bool = False) -> Awaitable[None]:
        """Make all that is noted durable, whatever is cancelled meanwhile.

        Raises `StaleFence` if another owner took the saga over, `StorageError` if the store failed for good; the
        journal is closed then.
        """
        commit = self._commit_in_turn if self.storage.waits or self._writing else self._commit
        return commit(wait, release=release)

    async def _commit_in_turn(self, wait: float, *, release: bool) -> None:
        if self._writing:
            with CancelScope(shield=True):
                await self._wait_for_turn()
        self._writing = True
        try:
            await self._commit(wait, release=release)
        finally:
            self._end_turn()

    async def release(self) -> None:
        """Give the saga back, together with what is noted. A release that fails is repeated by the store."""
        if self.pending:
            await self.commit(release=True)
            if self.closed:  # or what was noted went along with somebody else's write
                return
        self.closed = True
        if self.claim is not None:
            with CancelScope(shield=True):
                await self.storage.release(self.claim)
        self._owes = False

    def drop(self) -> None:
        """Have the store give the saga back on its own time, together with what is noted. Never blocks or raises."""
        if self.claim is None or self.claim.lost or not self._owes:
            return  # lost claims are others', also those that stayed in the parent of a fork
        self._owes = False
        if self.closed or self._writing or not self.pending:  # what follows a write under way may come before it
            self.storage.defer(self._unreleased or self.claim)
        else:
            entries, state = tuple(self.pending), self.progress.state
            fence, held = self.progress.fence, self.holds_events
            self.storage.defer(Write(self.saga_id, fence, entries, state, release=True, held=held))
        self.closed = True

    async def _wait_for_turn(self) -> None:
        # Branches of a Parallel meet here, and a checkpoint() of a task that outlives its act.
        while self._writing:
            if self._written_event is None:
                self._written_event = anyio.Event()
            await self._written_event.wait()

    def _end_turn(self) -> None:
        self._writing = False
        if self._written_event is not None:
            self._written_event.set()
            self._written_event = None

    async def _commit(self, wait: float, *, release: bool) -> None:
        self._refuse_if_closed()
        if not self.pending:
            return
        entries, self.pending = tuple(self.pending), []
        write = Write(self.saga_id, self.progress.fence, entries, self.progress.state, wait, release, self.holds_events)
        cancelled: BaseException | None = None
        try:
            try:
                await self.storage.record(write)
            except (StorageUnavailable, get_cancelled_exc_class()) as error:  # noqa: ASYNC103 - as `_send_again` says
                cancelled = await self._send_again(write, error)  # noqa: ASYNC102 - shielded in there, and bounded
        except StaleFence:
            self.closed, self._owes = True, False
            raise
        except BaseException as error:
            self.closed = True
            if isinstance(error, StorageError):
                self._failure = error
                self._unreleased = write if release else None
            raise
        if write.frees:
            self.closed, self._owes = True, False
        if cancelled is not None:
            raise cancelled

    async def _send_again(self, write: Write, error: BaseException) -> BaseException | None:
        """Send a write of which nobody knows whether it took effect; the same write again is harmless, and tells.

        Only here is it shielded: a shield for each write, most of which nobody cancels, would cost more than the rest
        of it. Returns a native cancellation, to be raised; one of AnyIO comes again by itself.
        """
        cancelled = None if isinstance(error, StorageUnavailable) else error
        pauses = iter(RESEND_PAUSES)
        self._writing = True  # also where the store itself never waits
        try:
            with CancelScope(shield=True):
                while True:
                    try:
                        if isinstance(error, StorageUnavailable):
                            pause = next(pauses, None)
                            if pause is None:
                                raise error
                            await anyio.sleep(pause)
                        await self.storage.record(write)
                        break
                    except StorageUnavailable as again:
                        if again is error:
                            raise
                        error = again
                    except get_cancelled_exc_class() as again:  # noqa: ASYNC103 - raised by the caller
                        if cancelled is not None and isinstance(error, get_cancelled_exc_class()):
                            raise
                        cancelled = error = again
        finally:
            self._end_turn()
        if cancelled is None or anyio.get_current_task().has_pending_cancellation():
            return None
        return cancelled

    def _refuse_if_closed(self) -> None:
        if self.claim is not None and self.claim.lost:
            self.closed, self._owes = True, False
            raise StaleFence(self.saga_id, self.progress.fence)
        if self.closed:
            raise self._failure or StaleFence(self.saga_id, self.progress.fence)
