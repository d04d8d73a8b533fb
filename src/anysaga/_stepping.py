"""Carries one decision out on one step: makes the call, and notes how it ended. It commits nothing but checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from anyio import CancelScope, current_time
from attrs import define, field

from anysaga._calls import UNLIMITED, Ended, How, Unlimited, call, native_cancellations
from anysaga._current import CurrentStep, key_of
from anysaga._decisions import Compensate
from anysaga._definition import Definition, Leaf, is_outcome
from anysaga._errors import CheckpointRefused, NotStorable, SagaTimeout, StaleFence, StepTimeout
from anysaga._hosting import in_own_loop
from anysaga._journal import Journal
from anysaga._live_context import LiveContext
from anysaga._progress import ROOT
from anysaga._records import Claim, Entry, EntryKind, Outcome, SagaState, Write
from anysaga._results import StepResult
from anysaga._retry import Retry
from anysaga._shield import run_shielded
from anysaga._step import Step


@define(eq=False, repr=False)
class Stepping:
    """Calls act, compensate and probe of a saga's steps.

    `error` is the exception that made the saga go back, as the caller will see it. `deadline` is the saga's, on the
    loop's clock. `in_call` says that a call began whose end is not noted. `drains` is set for workers: a cancellation
    then waits `grace` for the act, and undoes nothing.
    """

    definition: Definition
    journal: Journal
    steps: Mapping[str, Step[Any, Any]]
    context: LiveContext
    drains: bool = False
    deadline: float = math.inf
    error: BaseException | None = field(default=None, init=False)
    result: StepResult[Any] | None = field(default=None, init=False)
    results: dict[str, StepResult[Any]] = field(factory=dict, init=False)
    in_call: bool = field(default=False, init=False)
    native_before: int = field(factory=native_cancellations, init=False)
    _scope: CancelScope | None = field(default=None, init=False)
    _acting: CurrentStep | None = field(default=None, init=False)

    def watch_claim(self) -> Claim:
        """Have the running call cancelled once the claim is lost. Returns the claim."""
        claim = self._refuse_if_lost()
        if self.journal.storage.waits:
            claim.watch(in_own_loop(self._stop))
        return claim

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def act(self, leaf: Leaf, attempt: int) -> None:
        """Call act, and note DONE, NOT_DONE or UNKNOWN. Raises the cancellation that ended it, after noting UNKNOWN."""
        progress = self.journal.progress
        await self._confirm()
        self.context.bring_to(progress.base)
        deadline = math.inf if leaf.pivot or progress.pivot else self.deadline
        outcome = Outcome.UNKNOWN if progress.of(leaf.path).doubt else None
        current = self._current(leaf, "act", attempt, outcome)
        self._acting = current
        try:
            ended = await self._call(leaf, self.steps[leaf.path].act, current, deadline)
        finally:
            self._acting = None
        await self._note_act(leaf, attempt, ended)
        self.in_call = False
        _raise_again(ended)

    async def compensate(self, decision: Compensate) -> None:
        """Call compensate, and note UNDONE or UNDO_FAILED. An undo that is cut short leaves its intent open."""
        leaf, attempt = decision.leaf, decision.attempt
        await self._confirm()
        self.context.bring_to(self.journal.progress.current)
        current = self._current(leaf, "undo", attempt, decision.outcome)
        ended = await self._call(leaf, self.steps[leaf.path].compensate, current, math.inf)
        if ended.how is How.RETURNED:
            text = self._context_or_none(self.journal.progress.current)[0]
            self.journal.note(EntryKind.UNDONE, leaf.path, attempt=attempt, context=text, duration=ended.duration)
            self.in_call = False
            _raise_again(ended)
            return
        if ended.how in (How.CANCELLED, How.NOT_CALLED):
            _raise_again(ended)
        error = self._own_error(leaf, ended)
        wait = self._wait(leaf.compensate_retry, attempt - self.journal.progress.of(leaf.path).undo_forgiven, error)
        self.context.touched()
        text = self.context.in_words(error)
        self.journal.note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempt, error=text, wait=wait)
        self.in_call = False
        if ended.how is How.STILL_RUNNING:
            await self._park_running(leaf, ended)
        _raise_again(ended)

    async def probe(self, leaf: Leaf) -> None:
        """Call probe, and note its answer. A probe that fails, or answers nonsense, has answered UNKNOWN."""
        progress = self.journal.progress
        await self._confirm()
        self.context.bring_to(progress.base)
        current = self._current(leaf, "act", progress.of(leaf.path).attempts, Outcome.UNKNOWN)
        ended = await self._call(leaf, self.steps[leaf.path].probe, current, math.inf)
        self.context.touched()
        if ended.how is not How.RETURNED:
            _raise_again(ended)
        answer, text = ended.value, None
        if not is_outcome(answer):
            answer = Outcome.UNKNOWN
            text = self.context.in_words(ended.error) if ended.error else "probe returned no Outcome"
        self.journal.note(EntryKind.PROBED, leaf.path, outcome=answer, error=text)
        self.in_call = False
        _raise_again(ended)

    async def save(self, leaf: Leaf, current: CurrentStep) -> None:
        """Make the context durable in the middle of an act."""
        if self._acting is not current:
            raise CheckpointRefused(leaf.name, "its act has ended")
        text = self.context.encode()
        if text == self.journal.progress.base:
            return
        self.journal.note(EntryKind.CHECKPOINT, leaf.path, context=text)
        await self.journal.commit()

    async def _confirm(self) -> None:
        await self.journal.storage.confirm(self._refuse_if_lost())

    def _refuse_if_lost(self) -> Claim:
        claim = self.journal.claim
        if claim is None or claim.lost:
            raise StaleFence(self.journal.saga_id, self.journal.progress.fence)
        return claim

    def _current(self, leaf: Leaf, verb: str, attempt: int, outcome: Outcome | None) -> CurrentStep:
        saga_id = self.journal.saga_id
        current = CurrentStep(
            saga_id=saga_id,
            saga_name=self.definition.name,
            step_name=leaf.name,
            path=leaf.path,
            attempt=attempt,
            key=key_of(saga_id, leaf.path, verb),
            fence=self.journal.progress.fence,
            outcome=outcome,
        )
        if verb == "act":
            current._save = partial(self.save, leaf, current)
        return current

    async def _call(self, leaf: Leaf, method: Callable[[Any], Any], current: CurrentStep, deadline: float) -> Ended:
        limit = deadline if leaf.timeout is None else min(deadline, current_time() + leaf.timeout)
        if limit != math.inf or self.journal.storage.waits:
            self._scope = CancelScope(deadline=limit)
        self.in_call = True
        self.context.touched()
        try:
            ended = await self._call_in(self._scope or UNLIMITED, method, current)
        finally:
            self._scope = None
        if ended.how is not How.CANCELLED:
            self._refuse_if_lost()
        return ended

    async def _call_in(
        self, scope: CancelScope | Unlimited, method: Callable[[Any], Any], current: CurrentStep
    ) -> Ended:
        grace = self.definition.grace
        make = partial(
            call,
            method,
            self.context.value,
            current=current,
            scope=scope,
            grace=grace,
            native_before=self.native_before,
        )
        if not self.drains or self.journal.progress.going_back:
            return await make()
        ended: Ended | None = None

        async def work() -> None:
            nonlocal ended
            ended = await make()

        await run_shielded(work, grace)
        return ended or Ended(How.CANCELLED)

    async def _note_act(self, leaf: Leaf, attempt: int, ended: Ended) -> None:
        if ended.how is How.RETURNED:
            self._note_done(leaf, attempt, ended)
            return
        if ended.how is How.NOT_CALLED and ended.cancelled is not None:
            self.journal.note(EntryKind.WITHDRAWN, leaf.path)
            return
        if ended.how is How.CANCELLED and self.drains:
            _raise_again(ended)
        error = self._own_error(leaf, ended)
        clean = ended.how is How.NOT_CALLED or (ended.how is How.RAISED and leaf.is_clean(error))
        expired = isinstance(error, SagaTimeout)
        forgiven = self.journal.progress.of(leaf.path).forgiven
        wait = None if expired else self._wait(leaf.retry, attempt - forgiven, error)
        text, problem = self._context_or_none(self.journal.progress.base)
        self.journal.note(
            EntryKind.NOT_DONE if clean else EntryKind.UNKNOWN,
            leaf.path,
            attempt=attempt,
            context=text,
            error=self.context.in_words(error) + problem,
            wait=wait,
            duration=ended.duration,
        )
        if ended.how is How.CANCELLED:
            return
        self.error = error
        if expired:
            self.journal.note(EntryKind.BACK, ROOT, error=self.context.in_words(error))
        if ended.how is How.STILL_RUNNING:
            await self._park_running(leaf, ended)

    def _note_done(self, leaf: Leaf, attempt: int, ended: Ended) -> None:
        progress = self.journal.progress
        try:
            response = leaf.encode_response(ended.value)
            text = self.context.encode()
        except NotStorable as error:
            self._note_not_storable(leaf, attempt, error)
            return
        self.journal.note(
            EntryKind.DONE,
            leaf.path,
            attempt=attempt,
            context=None if text == progress.base else text,
            response=response,
            duration=ended.duration,
        )
        self.result = self.results[leaf.path] = StepResult(
            saga_id=self.journal.saga_id,
            step_name=leaf.name,
            step_type=leaf.type,
            response=ended.value,
            attempts=attempt,
            duration=ended.duration,
        )

    def _note_not_storable(self, leaf: Leaf, attempt: int, error: NotStorable) -> None:
        """The act took effect, and its result cannot be kept: no retry can mend that, so the saga goes back."""
        progress = self.journal.progress
        text, problem = self._context_or_none(progress.base)
        words = self.context.in_words(error)
        self.error = error
        self.journal.note(EntryKind.UNKNOWN, leaf.path, attempt=attempt, context=text, error=words + problem)
        if leaf.pivot or progress.pivot is not None:
            self.journal.note(EntryKind.PARKED, leaf.path, error=f"what the step made cannot be stored: {words}")
            return
        self.journal.note(EntryKind.BACK, ROOT, error=f"step {leaf.name!r} failed: {words}")

    async def _park_running(self, leaf: Leaf, ended: Ended) -> None:
        reason = f"its thread is still running {self.definition.grace:g} seconds after it was asked to end"
        self.journal.note(EntryKind.PARKED, leaf.path, error=reason)
        if ended.thread is None:
            return
        await self.journal.commit()
        journal = self.journal
        seq, fence = journal.seq + 1, journal.progress.fence

        def tell(sentence: str) -> None:
            note = Entry(EntryKind.NOTE, leaf.path, error=sentence, seq=seq, fence=fence)
            journal.storage.defer(Write(journal.saga_id, fence, (note,), SagaState.PARKED))

        ended.thread.when_ended(tell)

    def _own_error(self, leaf: Leaf, ended: Ended) -> BaseException:
        """The exception that the caller will see for this end."""
        if ended.how in (How.TIMED_OUT, How.STILL_RUNNING, How.NOT_CALLED):
            error = self._timeout_error(leaf)
            error.__cause__ = ended.error
            return error
        return ended.error or ended.cancelled or StaleFence(self.journal.saga_id, self.journal.progress.fence)

    def _timeout_error(self, leaf: Leaf) -> BaseException:
        saga, saga_id = self.definition.name, self.journal.saga_id
        going_back = self.journal.progress.going_back
        if not going_back and current_time() >= self.deadline and self.definition.timeout is not None:
            return SagaTimeout(saga, saga_id, self.definition.timeout)
        return StepTimeout(saga, saga_id, leaf.name, leaf.timeout or 0.0)

    def _wait(self, retry: Retry | None, attempt: int, error: BaseException) -> float | None:
        """Seconds until the next attempt, or None. A cancellation is no failure of the step: `on` is not asked."""
        if retry is None:
            return None
        try:
            again = not isinstance(error, Exception) or retry.matches(error)
            return retry.wait_after(attempt) if again else None
        except Exception as problem:  # noqa: BLE001 - a user's function may raise anything
            error.add_note(f"Retry.on could not judge this error: {self.context.in_words(problem)}")
            return None

    def _context_or_none(self, durable: str) -> tuple[str | None, str]:
        """The context's text if it can be stored and changed, and what to say if it cannot."""
        try:
            text = self.context.encode()
        except NotStorable as error:
            return None, f" (its context was not kept: {self.context.in_words(error)})"
        return (None if text == durable else text), ""


def _raise_again(ended: Ended) -> None:
    """Raise the cancellation that came out of a call, now that its end is recorded."""
    if ended.cancelled is not None:
        raise ended.cancelled
