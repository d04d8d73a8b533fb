"""What a person can do with a parked saga. Each is one fenced write; `recover` or `recover_saga` then goes on.

None of these needs the saga's class: they work on the stored log, by step names.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from attrs import evolve, frozen

from anysaga._arguments import check_texts
from anysaga._definition import steps_in
from anysaga._errors import InvalidArgument, OperationRefused, StorageError
from anysaga._ids import checked_id
from anysaga._nodes import is_below
from anysaga._records import LIVE_STATES, Claim, Entry, EntryKind, Outcome, SagaState, Write
from anysaga._shield import give_back
from anysaga._snapshot import fit_error
from anysaga.abc import Storage

PARKED = frozenset({SagaState.PARKED})
ANSWERS = {"done": Outcome.DONE, "not-done": Outcome.NOT_DONE}


async def resolve(
    saga_id: str | uuid.UUID, step: str, answer: Literal["done", "not-done"], *, storage: Storage, note: str = ""
) -> SagaState:
    """Say what became of a step of a parked saga. Returns the saga's state from now on.

    ``"done"``: its effect is there (when going back, it is then undone once more). ``"not-done"``: its effect is not
    there, and its idempotency key can no longer take effect (when going back, it counts as undone). `note` is kept in
    the log.

    Raises `SagaNotFound`, and `OperationRefused` if the saga is not parked, has no such step, the step never began, or
    is ``"not-done"`` after it was done and the saga has gone on.
    """
    if answer not in ANSWERS:
        raise OperationRefused(str(saga_id), "resolve", f'{answer!r} is no answer: say "done" or "not-done"')
    check_texts(note=note)
    async with await _Desk.open(storage, saga_id, "resolve") as desk:
        path = desk.path_of(step)
        if not desk.has_begun(path):
            raise desk.refusal(f"its step {step!r} never began, so there is nothing to resolve")
        if answer == "not-done" and desk.went_on_after(path):
            raise desk.refusal(f"its step {step!r} was done, and the saga went on: do it by hand, or compensate()")
        entry = Entry(EntryKind.RESOLVED, path, outcome=ANSWERS[answer], error=note or None)
        return await desk.write(entry, desk.live_state)


async def retry(saga_id: str | uuid.UUID, *, storage: Storage, note: str = "") -> SagaState:
    """Let a parked saga try again from where it stands, with all attempts allowed anew. Returns its state from now on.

    A pivot in doubt is then acted again under its same key. Raises `SagaNotFound`, and `OperationRefused` if the saga
    is not parked.
    """
    check_texts(note=note)
    async with await _Desk.open(storage, saga_id, "retry") as desk:
        return await desk.write(Entry(EntryKind.RETRIED, desk.parked_path, error=note or None), desk.live_state)


async def compensate(saga_id: str | uuid.UUID, *, storage: Storage, note: str = "undone by a person") -> SagaState:
    """Send a parked saga backwards: everything it did is undone by the next recovery. Returns its state from now on.

    Raises `SagaNotFound`, and `OperationRefused` if the saga is not parked, goes back already, or has a pivot that is
    done or in doubt.
    """
    check_texts(note=note)
    async with await _Desk.open(storage, saga_id, "compensate") as desk:
        if desk.goes_back:
            raise desk.refusal("it goes back already: resolve() the step that could not be undone, or retry()")
        pivot = desk.begun_pivot
        if pivot is not None:
            raise desk.refusal(f"its pivot {pivot!r} is done or in doubt: resolve() it first, or retry()")
        return await desk.write(Entry(EntryKind.BACK, error=note), SagaState.COMPENSATING)


async def abandon(saga_id: str | uuid.UUID, *, storage: Storage, reason: str) -> SagaState:
    """Close a saga as it is: nothing of it is done or undone any more. Returns ABANDONED.

    Takes a parked saga, or a live one whose owner is gone. Raises `SagaNotFound`, `SagaAlreadyRunning` if its owner is
    alive, and `OperationRefused` if it has ended.
    """
    check_texts(reason=reason)
    async with await _Desk.open(storage, saga_id, "abandon", states=PARKED | LIVE_STATES) as desk:
        return await desk.write(Entry(EntryKind.ABANDONED, error=reason), SagaState.ABANDONED)


@frozen
class _Desk:
    """A claimed saga before a person, and what its log says without its definition.

    Its one write gives the saga back. Leaving without that gives it back, too: else it would stay ours for as long as
    this process lives, and nobody could say anything about it.
    """

    storage: Storage
    claim: Claim
    operation: str

    @classmethod
    async def open(
        cls, storage: Storage, saga_id: str | uuid.UUID, operation: str, states: frozenset[SagaState] = PARKED
    ) -> _Desk:
        identity = checked_id(saga_id)
        if not isinstance(storage, Storage):
            raise InvalidArgument("storage", storage, "give the Storage that has the saga")
        try:
            return cls(storage, await storage.claim(identity, states=states), operation)
        except OperationRefused:  # a cancellation while the state is read may hide it
            state = (await storage.load(identity)).summary.state  # noqa: ASYNC120 - as above
            words = "is not parked" if states is PARKED else "has ended"
            raise OperationRefused(identity, operation, f"it {words}, it is {state}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        with suppress(StorageError):  # of which the storage takes care itself
            await give_back(self.storage, self.claim)  # noqa: ASYNC102 - shields itself

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.claim.record.entries

    @property
    def outline(self) -> list[tuple[str, str, str]]:
        try:
            return steps_in(self.claim.record.outline)
        except ValueError:
            raise self.refusal("the list of its steps cannot be read: abandon() it") from None

    @property
    def goes_back(self) -> bool:
        return any(entry.kind is EntryKind.BACK and not entry.path for entry in self.entries)

    @property
    def live_state(self) -> SagaState:
        return SagaState.COMPENSATING if self.goes_back else SagaState.RUNNING

    @property
    def parked_path(self) -> str:
        paths = [entry.path for entry in self.entries if entry.kind is EntryKind.PARKED]
        return paths[-1] if paths else ""

    @property
    def begun_pivot(self) -> str | None:
        """The first pivot of which one cannot say that it had no effect."""
        for path, name, kind in self.outline:
            if kind == "pivot" and not _is_clean([entry for entry in self.entries if entry.path == path]):
                return name
        return None

    def has_begun(self, path: str) -> bool:
        """Whether a step was called: an intent that was withdrawn says that it was not."""
        acts, undoes = 0, False
        for entry in self.entries:
            if entry.path != path:
                continue
            if entry.kind in (EntryKind.STARTED, EntryKind.UNDO_STARTED):
                undoes = entry.kind is EntryKind.UNDO_STARTED
                acts += not undoes
            elif entry.kind is EntryKind.WITHDRAWN:
                acts -= not undoes
        return acts > 0

    def went_on_after(self, path: str) -> bool:
        """Whether a step is done, and not part of what goes back: the saga never comes to it again."""
        done = False
        for entry in self.entries:
            if entry.path == path and entry.kind in _OUTCOMES:
                done = entry.kind is EntryKind.DONE or entry.outcome is Outcome.DONE
            elif entry.kind is EntryKind.BACK and is_below(path, entry.path):
                return False
        return done

    def path_of(self, step: str) -> str:
        for path, name, _ in self.outline:
            if step == name:
                return path
        names = ", ".join(repr(name) for _, name, _ in self.outline)
        raise self.refusal(f"it has no step {step!r}: its steps are {names}")

    async def write(self, entry: Entry, state: SagaState) -> SagaState:
        record = self.claim.record
        text = None if entry.error is None else fit_error(entry.error)
        entry = evolve(entry, seq=record.summary.seq + 1, fence=self.claim.fence, error=text)
        write = Write(record.summary.saga_id, self.claim.fence, (entry,), state, release=True, held=True)
        await self.storage.record(write)
        return state

    def refusal(self, reason: str) -> OperationRefused:
        return OperationRefused(self.claim.record.summary.saga_id, self.operation, reason)


_OUTCOMES = {
    EntryKind.STARTED,
    EntryKind.DONE,
    EntryKind.NOT_DONE,
    EntryKind.UNKNOWN,
    EntryKind.WITHDRAWN,
    EntryKind.PROBED,
    EntryKind.RESOLVED,
}


def _is_clean(entries: list[Entry]) -> bool:
    """Whether what is said of one step is that it had no effect: each attempt was clean, or somebody resolved it."""
    effects = 0
    for entry in entries:
        if entry.outcome is Outcome.NOT_DONE:
            effects = 0
        elif entry.kind is EntryKind.STARTED or entry.outcome is Outcome.DONE:
            effects += 1
        elif entry.kind in (EntryKind.NOT_DONE, EntryKind.WITHDRAWN):
            effects -= 1
    return effects <= 0
