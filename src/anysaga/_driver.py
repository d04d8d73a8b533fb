"""Carries decisions out: the only place where what is decided becomes calls and commits.

One driver serves a first run, a resume, a recovery and the blocking facade, on both loops.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from itertools import count
from typing import Any

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from attrs import define, field

from anysaga._decisions import (
    Act,
    Decision,
    Finish,
    Fork,
    Park,
    can_go_back,
    decide,
    pivot_in_doubt,
)
from anysaga._end_words import end_error, words_of_cancellation
from anysaga._errors import PivotPassed, StaleFence, StorageError
from anysaga._journal import Journal
from anysaga._lane import Lane
from anysaga._nodes import ROOT
from anysaga._notes import add_note
from anysaga._progress import Progress
from anysaga._records import EntryKind
from anysaga._results import StepResult
from anysaga._run import Parking
from anysaga._shield import run_shielded
from anysaga._stepping import Stepping

TURNS = 16
"""Steps after which the other tasks of the loop are let run."""

LOOK = 0.1
"""Seconds between two looks for sagas that only wait, while whoever drives them drains."""

_TURNS_TAKEN = count(1)  # by all sagas together: many short ones let the others run as often as a long one


@define(eq=False, repr=False)
class Driver:
    """Drives one saga that this process owns.

    `advance` goes on until a step is done or the saga is over. After a failure, a cancellation or `turn_back`, the
    saga is undone before the call ends.
    """

    journal: Journal
    stepping: Stepping
    has_ended: bool = field(default=False, init=False)
    """Whether the end of the saga, or that it is parked, is durable: `progress` runs ahead of the store."""
    _over: bool = field(default=False, init=False)
    _lane: Lane = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lane = Lane(self.journal, self.stepping)

    @property
    def progress(self) -> Progress:
        """What the log says so far."""
        return self.journal.progress

    @property
    def is_over(self) -> bool:
        """Whether this owner has nothing left to do: the saga ended, was given back, or was taken away."""
        return self._over or self.journal.closed

    @property
    def is_exhausted(self) -> bool:
        """Whether the saga is over, and the caller has seen all its results."""
        return self.is_over and not self.stepping.run.fresh

    @property
    def only_waits(self) -> bool:
        """Whether nothing happens until the turn of a retry comes, so that the saga may as well be given back."""
        run = self.stepping.run
        return run.waiting > 0 and not run.in_call and not self.progress.going_back

    def plan_first(self) -> None:
        """Note the intents that come first, so that they are durable together with the saga itself."""
        match decide(self.progress):
            case Act() as decision if not decision.leaf.pivot:
                self._lane.intend(decision)
            case Fork() as fork:
                self._lane.intend_fork(fork)

    def claimed(self) -> None:
        """Get ready once the saga is ours: watch the claim, and set the deadline."""
        claim = self.stepping.watch_claim()
        claim.forget_log()
        summary = claim.record.summary
        if summary.deadline is None:
            return
        self.stepping.deadline = self.journal.until(summary.deadline)
        self.stepping.run.limit = (summary.deadline - summary.created_at) / 1_000_000

    async def advance(self) -> StepResult[Any] | None:
        """Go on until a step is done, and return its result; None once the saga is completed.

        Raises the step's own error after the saga was undone, `SagaParked` if it waits for a person,
        `SagaCompensated` if it was going back already, `StaleFence` if another owner took it over, and `StorageError`
        if the store failed.
        """
        if self._over or self.journal.closed:
            return self.stepping.run.next_result()
        try:
            return await self._forward()
        except GeneratorExit:
            self.drop()
            raise
        except Exception:
            self.drop()
            raise
        except BaseException as error:
            await self.leave(error, words_of_cancellation(error))  # noqa: ASYNC102 - shields itself, and is bounded
            raise

    async def leave(self, error: BaseException, cause: str) -> None:
        """Turn back because of `error`, which stays the one that the caller sees, whatever the store does."""
        try:
            await self.turn_back(cause, cancelled=not isinstance(error, Exception))
        except (StorageError, StaleFence) as problem:
            add_note(error, f"{self.progress.definition.name} ({self.journal.saga_id}): {problem}")
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
        self.stepping.run.fresh.clear()
        if self.stepping.run.parks:
            await self._end_parked(self.stepping.run.parks[0])
            return
        if self.stepping.run.drains or not (self.progress.going_back or can_go_back(self.progress)):
            await self.suspend()
            return
        if not self.progress.going_back:
            self._lane.go_back(ROOT, cause)
        await self._undo(cancelled=cancelled)

    async def abort(self, cause: str) -> None:
        """Undo the saga on purpose. Raises `PivotPassed` where that is not possible any more."""
        progress = self.progress
        if not self.is_over and not can_go_back(progress):
            pivot = pivot_in_doubt(progress)
            name = progress.pivot or (pivot.name if pivot is not None else "")
            raise PivotPassed(progress.definition.name, self.journal.saga_id, name)
        try:
            await self.turn_back(cause)
        except Exception:
            self.drop()
            raise

    async def suspend(self) -> None:
        """Give the saga back as it is: the intent that was not used is withdrawn, and anybody can resume it."""
        if self.is_over:
            return
        self._over = True
        self.stepping.run.fresh.clear()
        self._lane.withdraw()
        try:
            await self.journal.release()
        except BaseException:
            self.journal.drop()
            raise

    def drop(self) -> None:
        """Give the saga back without waiting: from a finalizer, or after the store failed. Safe to call twice."""
        if not self.is_over:
            self._lane.withdraw()
        self._over = True
        self.journal.drop()

    def end_error(self) -> BaseException:
        """What the caller is told about a saga that is undone or parked. To be asked once."""
        parked = self.progress.parked
        error = self.stepping.run.take_error(ROOT if parked is None else parked[0])
        return end_error(self.progress, self.journal.saga_id, error)

    async def _forward(self) -> StepResult[Any] | None:
        progress, stepping, lane = self.journal.progress, self.stepping, self._lane
        run = stepping.run
        while progress.parked is None and ROOT not in progress.back:
            decision = decide(progress)
            if not isinstance(decision, Act):
                if await self._go_on(decision):
                    return self.stepping.run.next_result()
            # Most decisions are acts, and each layer of coroutines counts: the straight way needs none of the lane.
            elif lane.is_ready(decision) or await lane.prepare(decision):
                if run.fresh and run.pauses:
                    return run.next_result()
                if _turn_is_over():
                    await checkpoint()
                back = await stepping.act(decision.leaf, decision.attempt)
                if back is not None:
                    lane.go_back(back.path, back.cause)
            if run.parks:
                await self._park(run.parks[0])
        raise await self._failed()

    async def _go_on(self, decision: Decision) -> bool:
        """Carry out any decision but an act. True once the saga is over, or there is a result to show before."""
        run = self.stepping.run
        match decision:
            case Finish():
                self.journal.note(EntryKind.COMPLETED)
                await self._end()
                run.completed()
                return True
            case Fork():
                self._lane.intend_fork(decision)
                await self.journal.commit()
                if run.pauses:
                    return True
                await self._lane.fork(decision)
            case Park(path, reason):
                run.parks.append(Parking(path, reason))
            case _:
                await _take_turns()
                await self._lane.carry_out(decision)
        return False

    async def _park(self, parking: Parking) -> None:
        """Let the saga wait for a person. Nothing of it runs any more, unless threads that could not be stopped."""
        parks, name_at = self.stepping.run.parks, self.progress.definition.name_at
        others = [f"step {name_at(each.path)!r}: {each.reason}" for each in parks if each is not parking]
        reason = "; ".join([parking.reason, *others])
        self.journal.note(EntryKind.PARKED, parking.path, error=reason)
        running = [(each.path, each.thread) for each in parks if each.thread is not None]
        if not running:
            return
        await self._end()
        note = self.journal.late_notes(reason)
        for path, thread in running:
            thread.when_ended(partial(note, path))

    async def _failed(self) -> BaseException:
        """The error for the caller, once all is undone or the saga is parked."""
        if self.progress.parked is not None:
            await self._end()
        else:
            await self._undo()
            await checkpoint()
        return self.end_error()

    async def _undo(self, *, cancelled: bool = False) -> None:
        """Undo all that is left to undo, under a shield. What does not fit into the grace is given to recovery."""
        in_time = await run_shielded(self._backward, self.progress.definition.grace, cancelled=cancelled)
        if in_time:
            return
        if self.stepping.run.parks:  # an undo whose thread still runs: nobody may undo beside it
            await self._end_parked(self.stepping.run.parks[0])
        else:
            await self.suspend()

    async def _backward(self) -> None:
        run = self.stepping.run
        while not self.progress.state.is_end:
            match decide(self.progress):
                case Finish():
                    self.journal.note(EntryKind.COMPENSATED, error=self.progress.back[ROOT])
                case Park(path, reason):
                    run.parks.append(Parking(path, reason))
                case decision:
                    await self._lane.undo(decision)
            if run.parks:
                await self._park(run.parks[0])
        await self._end()

    async def _end_parked(self, parking: Parking) -> None:
        await self._park(parking)
        await self._end()

    async def _end(self) -> None:
        if self.journal.pending or not self.journal.closed:
            await self.journal.commit()
        self._over = self.has_ended = True


def _take_turns() -> Awaitable[None]:
    """Let a cancellation in, and now and then the other tasks, even where no step and no store ever waits."""
    return checkpoint() if _turn_is_over() else checkpoint_if_cancelled()


def _turn_is_over() -> bool:
    return next(_TURNS_TAKEN) % TURNS == 0
