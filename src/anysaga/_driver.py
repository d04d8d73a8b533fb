"""Carries decisions out: the only place where what is decided becomes calls and commits.

One driver serves a first run, a resume, a recovery and the blocking facade, on both loops.
"""

from __future__ import annotations

import math
from typing import Any

from anyio import CancelScope, current_time, get_cancelled_exc_class, sleep_until
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from attrs import define, field

from anysaga._decisions import (
    Act,
    Back,
    Compensate,
    Decision,
    Finish,
    GiveUp,
    Park,
    Probe,
    can_go_back,
    decide,
    pivot_in_doubt,
    uncalled,
)
from anysaga._errors import (
    PivotPassed,
    SagaCompensated,
    SagaParked,
    SagaTimeout,
    StaleFence,
    StorageError,
)
from anysaga._journal import Journal
from anysaga._progress import ROOT, Progress
from anysaga._records import EntryKind
from anysaga._results import StepResult
from anysaga._shield import run_shielded
from anysaga._stepping import Stepping

TURNS = 16
"""Steps after which a saga lets the other tasks of the loop run."""


@define(eq=False, repr=False)
class Driver:
    """Drives one saga that this process owns.

    `advance` goes on until a step is done or the saga is over. After a failure, a cancellation or `turn_back`, the
    saga is undone before the call ends.
    """

    journal: Journal
    stepping: Stepping
    _over: bool = field(default=False, init=False)
    _turn: int = field(default=0, init=False)

    @property
    def progress(self) -> Progress:
        """What the log says so far."""
        return self.journal.progress

    @property
    def is_over(self) -> bool:
        """Whether this owner has nothing left to do: the saga ended, was given back, or was taken away."""
        return self._over or self.journal.closed

    def plan_first(self) -> None:
        """Note the intent of the first step, so that it is durable together with the saga itself."""
        decision = decide(self.progress)
        if isinstance(decision, Act) and not decision.leaf.pivot:
            self.journal.note(EntryKind.STARTED, decision.leaf.path, attempt=decision.attempt)

    def claimed(self) -> None:
        """Get ready once the saga is ours: watch the claim, and set the deadline."""
        claim = self.stepping.watch_claim()
        deadline = claim.record.summary.deadline
        self.stepping.deadline = math.inf if deadline is None else self.journal.until(deadline)

    async def advance(self) -> StepResult[Any] | None:
        """Go on until a step is done, and return its result; None once the saga is completed.

        Raises the step's own error after the saga was undone, `SagaParked` if it waits for a person,
        `SagaCompensated` if it was going back already, `StaleFence` if another owner took it over, and `StorageError`
        if the store failed.
        """
        if self.is_over:
            return None
        try:
            await self._breathe()
            return await self._forward()
        except GeneratorExit:
            self.drop()
            raise
        except (get_cancelled_exc_class(), KeyboardInterrupt, SystemExit) as error:
            await self.leave(error, _cancelled_words(error))  # noqa: ASYNC102 - shields itself, and is bounded
            raise
        except BaseException:
            self.drop()
            raise

    async def _breathe(self) -> None:
        """Let a cancellation in, and now and then the other tasks, even where no step and no store ever waits."""
        self._turn += 1
        if self._turn % TURNS == 1:
            await checkpoint()
        else:
            await checkpoint_if_cancelled()

    async def leave(self, error: BaseException, cause: str) -> None:
        """Turn back because of `error`, which stays the one that the caller sees, whatever the store does."""
        try:
            await self.turn_back(cause, cancelled=not isinstance(error, Exception))
        except (StorageError, StaleFence) as problem:
            error.add_note(f"{self.progress.definition.name} ({self.journal.saga_id}): {problem}")
            self.drop()
        except BaseException:
            self.drop()
            raise

    async def turn_back(self, cause: str, *, cancelled: bool = False) -> None:
        """Undo the saga because of something outside it. Where it cannot go back, give it to recovery, forward.

        Going back is durable before anything is undone; if that write fails, nothing is undone here. `cancelled` says
        that the grace has begun to run.
        """
        if self.is_over:
            self.journal.drop()  # a write that was torn away may have left us the claim
            return
        if self.stepping.drains or not (self.progress.going_back or can_go_back(self.progress)):
            await self.suspend()
            return
        if not self.progress.going_back:
            self._withdraw()
            self.journal.note(EntryKind.BACK, ROOT, error=cause)
        await self._undo(cancelled=cancelled)

    async def abort(self, cause: str) -> None:
        """Undo the saga on purpose. Raises `PivotPassed` where that is not possible any more."""
        progress = self.progress
        if not self.is_over and not can_go_back(progress):
            pivot = pivot_in_doubt(progress)
            name = progress.pivot or (pivot.name if pivot is not None else "")
            raise PivotPassed(progress.definition.name, self.journal.saga_id, name)
        await self.turn_back(cause)

    async def suspend(self) -> None:
        """Give the saga back as it is: the intent that was not used is withdrawn, and anybody can resume it."""
        if self.is_over:
            return
        self._over = True
        self._withdraw()
        await self.journal.release()

    def drop(self) -> None:
        """Give the saga back without waiting: from a finalizer, or after the store failed. Safe to call twice."""
        if not self.is_over:
            self._withdraw()
        self._over = True
        self.journal.drop()

    def end_error(self) -> BaseException:
        """What the caller is told about a saga that is undone or parked."""
        progress = self.progress
        saga, saga_id = progress.definition.name, self.journal.saga_id
        error = self.stepping.error
        if progress.parked is not None:
            path, reason = progress.parked
            parked = SagaParked(saga, saga_id, progress.definition.name_at(path), reason)
            parked.__cause__ = error
            return parked
        if error is None:
            return SagaCompensated(saga, saga_id, progress.back.get(ROOT, ""))
        error.add_note(self.note_on_undo())
        return error

    def note_on_undo(self) -> str:
        """The sentence that is added to the error of a saga that went back."""
        progress = self.progress
        done = progress.undone
        undone = f"undone: {', '.join(done)}" if done else "nothing had to be undone"
        return f"saga {progress.definition.name!r} ({self.journal.saga_id}) went back, {undone}"

    async def _forward(self) -> StepResult[Any] | None:
        while True:
            if self.progress.parked is not None or self.progress.going_back:
                raise await self._failed()
            if await self._go_on(decide(self.progress)):
                result, self.stepping.result = self.stepping.result, None
                return result

    async def _go_on(self, decision: Decision) -> bool:
        """Carry one decision out. True once there is something durable to tell the caller."""
        match decision:
            case Act():
                return await self._act(decision)
            case Finish():
                self.journal.note(EntryKind.COMPLETED)
                await self._end()
                return True
            case Probe(leaf):
                await self.journal.commit()
                await self.stepping.probe(leaf)
            case Back(path, cause):
                self.journal.note(EntryKind.BACK, path, error=cause)
            case Park(path, reason):
                self.journal.note(EntryKind.PARKED, path, error=reason)
            case Compensate() | GiveUp():  # pragma: no cover - decided only once the saga goes back
                raise AssertionError(decision)
        return False

    async def _act(self, decision: Act) -> bool:
        if self._expired():
            self._expire()
            return False
        if not await self._ready(decision):
            return False
        if self.stepping.result is not None:
            return True
        await self.stepping.act(decision.leaf, decision.attempt)
        return False

    async def _failed(self) -> BaseException:
        """The error for the caller, once all is undone or the saga is parked."""
        if self.progress.parked is not None:
            await self._end()
        else:
            await self._undo()
            await checkpoint()
        return self.end_error()

    async def _ready(self, decision: Act) -> bool:
        """Make the intent of the next act durable. False if something else must be decided first."""
        journal = self.journal
        if decision.intent_written:
            await journal.commit()
            return True
        if decision.not_before > journal.now():
            await journal.commit(wait=(decision.not_before - journal.now()) / 1_000_000)
            await sleep_until(min(journal.until(decision.not_before), self.stepping.deadline))
            if self._expired():
                return False
        if decision.leaf.pivot and journal.pending:
            await journal.commit()
            if self.stepping.result is not None:
                return True
        journal.note(EntryKind.STARTED, decision.leaf.path, attempt=decision.attempt)
        await journal.commit()
        return True

    async def _undo(self, *, cancelled: bool = False) -> None:
        """Undo all that is left to undo, under a shield. What does not fit into the grace is given to recovery."""
        in_time = await run_shielded(self._backward, self.progress.definition.grace, cancelled=cancelled)
        if not in_time:
            with CancelScope(shield=True):
                await self.suspend()

    async def _backward(self) -> None:
        while not self.progress.state.is_end:
            match decide(self.progress):
                case Compensate() as decision:
                    await self._compensate(decision)
                case GiveUp(leaf, attempts, cause):
                    self.journal.note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempts, error=cause)
                case Probe(leaf):
                    await self.journal.commit()
                    await self.stepping.probe(leaf)
                case Park(path, reason):
                    self.journal.note(EntryKind.PARKED, path, error=reason)
                case Finish():
                    self.journal.note(EntryKind.COMPENSATED, error=self.progress.back[ROOT])
                case Act() | Back() as decision:  # pragma: no cover - never decided below a BACK
                    raise AssertionError(decision)
        await self._end()

    async def _compensate(self, decision: Compensate) -> None:
        journal = self.journal
        if not decision.intent_written:
            if decision.not_before > journal.now():
                await journal.commit(wait=(decision.not_before - journal.now()) / 1_000_000)
                await sleep_until(journal.until(decision.not_before))
            journal.note(EntryKind.UNDO_STARTED, decision.leaf.path, attempt=decision.attempt)
        await journal.commit()
        await self.stepping.compensate(decision)

    async def _end(self) -> None:
        if self.journal.pending or not self.journal.closed:
            await self.journal.commit()
        self._over = True

    def _withdraw(self) -> None:
        progress = self.progress
        if self.stepping.in_call or progress.parked is not None or progress.end is not None:
            return
        leaf = uncalled(progress)
        if leaf is not None:
            self.journal.note(EntryKind.WITHDRAWN, leaf.path)

    def _expired(self) -> bool:
        deadline = self.stepping.deadline
        return deadline != math.inf and current_time() >= deadline and can_go_back(self.progress)

    def _expire(self) -> None:
        progress = self.progress
        timeout = progress.definition.timeout or 0.0
        error = SagaTimeout(progress.definition.name, self.journal.saga_id, timeout)
        self.stepping.error = error
        self._withdraw()
        self.journal.note(EntryKind.BACK, ROOT, error=f"{type(error).__name__}: {error}")


def _cancelled_words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted by Ctrl-C"
    return "cancelled by its caller" if not isinstance(error, SystemExit) else "the process was asked to exit"
