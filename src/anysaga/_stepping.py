"""Carries one decision out on one step: makes the call, and notes how it ended. It commits nothing but checkpoints."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from anyio import CancelScope, current_time
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, evolve, field

from anysaga._breaking import CallStopped, SaysNothing, call_through
from anysaga._calls import UNLIMITED, Ended, How, call, sparing
from anysaga._cancellations import native_cancellations
from anysaga._crossing_threads import in_own_loop
from anysaga._current import CurrentStep, key_of
from anysaga._decisions import Back, Compensate
from anysaga._definition import Definition
from anysaga._endings import Endings, is_own_timeout
from anysaga._errors import (
    CheckpointRefused,
    EventRefused,
    SagaTimeout,
    StaleFence,
    StepTimeout,
)
from anysaga._journal import Journal
from anysaga._limits import MAX_EVENTS
from anysaga._live_context import LiveContext
from anysaga._nodes import Leaf
from anysaga._records import Claim, EntryKind, Outcome, StoredEvent
from anysaga._run import Run
from anysaga._step import Step
from anysaga.abc import CircuitStore, Outbox


@define(eq=False, repr=False)
class Stepping:
    """Calls act, compensate and probe of a saga's steps.

    `context` is what they work on, `run` what all branches of the saga share. `deadline` is the saga's, on the loop's
    clock.
    """

    definition: Definition
    journal: Journal
    steps: Mapping[str, Step[Any, Any]]
    context: LiveContext
    deadline: float = math.inf
    run: Run = field(factory=Run)
    _calling: CurrentStep | None = field(default=None, init=False)
    _endings: Endings = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._endings = Endings(self.definition, self.journal, self.context, self.run)

    def watch_claim(self) -> Claim:
        """Have the running call cancelled once the claim is lost. Returns the claim."""
        claim = self._refuse_if_lost()
        if self.journal.storage.waits:
            claim.watch(in_own_loop(self.run.stop_calls))
        return claim

    def branch(self, text: str) -> Stepping:
        """The same for a branch of a Parallel: on a context of its own, made from `text`."""
        value = self.definition.codec.decode(text, where=self.definition.context_name)
        context = LiveContext(self.definition, value, equals=text)
        return Stepping(self.definition, self.journal, self.steps, context, self.deadline, self.run)

    async def act(self, leaf: Leaf, attempt: int) -> Back | None:
        """Call act, and note DONE, NOT_DONE or UNKNOWN. Raises the cancellation that ended it, after noting UNKNOWN.

        Returns how to go back if no retry and no fallback may follow.
        """
        progress = self.journal.progress
        await self.journal.storage.confirm(self._refuse_if_lost())
        await checkpoint_if_cancelled()  # what has begun is in doubt, even where no store ever waits
        if progress.back and progress.goes_back(leaf):
            return None  # another branch failed meanwhile, and withdrew the intent
        self.context.bring_to(progress.context_of(leaf).base)
        deadline = self._deadline_of(leaf)
        outcome = Outcome.UNKNOWN if progress.steps[leaf.path].doubt else None
        current = self._calling = self._current(leaf, "act", attempt, outcome)
        ended: Ended | None
        try:
            if leaf.breaker is None:
                ended = await self._call(leaf, self.steps[leaf.path].act, current, deadline)
                if ended.how is not How.CANCELLED:
                    self._refuse_if_lost()
            else:
                ended = await self._call_through(leaf, self.steps[leaf.path].act, current, deadline)
        finally:
            self._calling = None
        try:
            return None if ended is None else self._acted(leaf, attempt, ended, current)
        finally:
            del ended  # its error holds this frame: together they would wait for the garbage collector

    def _acted(self, leaf: Leaf, attempt: int, ended: Ended, current: CurrentStep) -> Back | None:
        if ended.how is How.RETURNED:
            back = self._endings.done(leaf, attempt, ended, current)
        elif (lost := current.lost_event) is not None and ended.error is lost and not leaf.is_clean(lost):
            back = self._endings.not_kept(leaf, attempt, lost)
        else:
            if ended.how is How.CANCELLED and self.run.drains and not self.journal.progress.goes_back(leaf):
                _raise_again(ended)
            back = self._endings.not_returned(leaf, attempt, ended, self._own_error(leaf, ended))
        self.run.in_call.pop(leaf.path, None)
        if ended.cancelled is not None:
            raise ended.cancelled
        return back

    async def compensate(self, decision: Compensate) -> None:
        """Call compensate, and note UNDONE or UNDO_FAILED. An undo that is cut short leaves its intent open."""
        leaf, attempt = decision.leaf, decision.attempt
        await self.journal.storage.confirm(self._refuse_if_lost())
        progress = self.journal.progress
        if leaf.above and progress.of(leaf.path).undo_intent != progress.fence:
            return  # another branch failed meanwhile, and withdrew the intent
        durable = progress.context_of(leaf).current
        self.context.bring_to(durable)
        current = self._calling = self._current(leaf, "undo", attempt, decision.outcome)
        try:
            ended = await self._call(leaf, self.steps[leaf.path].compensate, current, math.inf)
        finally:
            self._calling = None
        try:
            self._undone(leaf, attempt, ended, durable, current)
        finally:
            del ended  # as in `act`

    def _undone(self, leaf: Leaf, attempt: int, ended: Ended, durable: str, current: CurrentStep) -> None:
        self._refuse_if_lost_in(ended)
        if ended.how is How.RETURNED and current.lost_event is not None:
            ended = evolve(ended, how=How.RAISED, error=current.lost_event)
        if ended.how in (How.CANCELLED, How.NOT_CALLED):
            _raise_again(ended)
        if ended.how is How.RETURNED:
            self._endings.undone(leaf, attempt, ended, durable, current)
        else:
            self._endings.undo_failed(leaf, attempt, ended, self._own_error(leaf, ended))
        self.run.in_call.pop(leaf.path, None)
        _raise_again(ended)

    async def probe(self, leaf: Leaf) -> None:
        """Call probe, and note its answer. A probe that fails, or answers nonsense, has answered UNKNOWN."""
        progress = self.journal.progress
        await self.journal.storage.confirm(self._refuse_if_lost())
        self.context.bring_to(progress.context_of(leaf).base)
        current = self._current(leaf, "act", progress.of(leaf.path).attempts, Outcome.UNKNOWN, records=False)
        ended = await self._call(leaf, self.steps[leaf.path].probe, current, self._deadline_of(leaf))
        try:
            self._probed(leaf, ended)
        finally:
            del ended  # as in `act`

    def _probed(self, leaf: Leaf, ended: Ended) -> None:
        progress = self.journal.progress
        self._refuse_if_lost_in(ended)
        if ended.how is How.STILL_RUNNING:
            self._endings.park_running(leaf, ended)
        elif ended.how is not How.RETURNED:
            _raise_again(ended)
        answer, text = ended.value, None
        if not isinstance(answer, Outcome):
            answer, text = Outcome.UNKNOWN, self._why_no_answer(leaf, ended)
        self._endings.probed(leaf, answer, text)
        if ended.how is not How.STILL_RUNNING:
            self.context.bring_to(progress.context_of(leaf).current)  # what its act wrote, perhaps as the last one
        self.run.in_call.pop(leaf.path, None)
        _raise_again(ended)

    def _why_no_answer(self, leaf: Leaf, ended: Ended) -> str:
        if ended.how is How.RETURNED:
            return "probe returned no Outcome"
        return self.context.in_words(self._own_error(leaf, ended))

    async def save(self, current: CurrentStep) -> None:
        """Make the context durable in the middle of an act."""
        if self._calling is not current:
            raise CheckpointRefused(current.step_name, "its act has ended")
        text = self.context.encode()
        self.context.touched()  # by what the act does from here on
        progress = self.journal.progress
        if text == progress.context_of(progress.definition.by_path[current.path]).base and not progress.rewritten:
            return
        self.journal.note(EntryKind.CHECKPOINT, current.path, context=text)
        await self.journal.commit()

    def store(self, current: CurrentStep, event: object, /, *, held: bool) -> StoredEvent:
        """An event as it enters the outbox with the outcome of this call."""
        if self._calling is not current:
            raise EventRefused(current.step_name, "its call has ended, and events are stored with its end")
        if not isinstance(self.journal.storage, Outbox):
            raise EventRefused(current.step_name, "this storage keeps no events: use one that implements Outbox")
        number = len(current.events) + 1
        if number > MAX_EVENTS:
            raise EventRefused(current.step_name, f"one call may record {MAX_EVENTS} events")
        binding = self.definition.events.binding_of(type(event))
        data = binding.codec.encode(event, where=f"the event {binding.name}")
        verb = "act" if current.key == current.act_key else "undo"
        identity = f"{current.saga_id}/{current.path}/{verb}/{number}"
        step = current.step_name
        return StoredEvent(identity, binding.name, data, self.definition.name, step, binding.destinations, held)

    def _refuse_if_lost(self) -> Claim:
        claim = self.journal.claim
        if claim is None or claim.lost:
            raise StaleFence(self.journal.saga_id, self.journal.progress.fence)
        return claim

    def _refuse_if_lost_in(self, ended: Ended) -> None:
        if ended.how is not How.CANCELLED:
            self._refuse_if_lost()

    def _current(
        self, leaf: Leaf, verb: str, attempt: int, outcome: Outcome | None, *, records: bool = True
    ) -> CurrentStep:
        saga_id, path = self.journal.saga_id, leaf.path
        return CurrentStep(
            saga_id,
            self.definition.name,
            leaf.name,
            path,
            attempt,
            key_of(saga_id, path, verb),
            self.journal.progress.fence,
            outcome,
            self,
            verb == "act",
            records,
        )

    def _call(
        self, leaf: Leaf, method: Callable[[Any], Any], current: CurrentStep, deadline: float
    ) -> Awaitable[Ended]:
        limit = deadline if leaf.timeout is None else min(deadline, current_time() + leaf.timeout)
        scope = CancelScope(deadline=limit) if limit != math.inf or self.journal.storage.waits else None
        progress, grace = self.journal.progress, self.definition.grace
        self.run.in_call[leaf.path] = scope
        self.context.touched()
        calling = call(
            method,
            self.context.value,
            current,
            scope or UNLIMITED,
            grace=grace,
            native_before=native_cancellations(),
        )
        if self.run.spares and not progress.goes_back(leaf):
            return sparing(calling, partial(progress.goes_back, leaf), grace)
        return calling

    def _call_through(
        self, leaf: Leaf, method: Callable[[Any], Any], current: CurrentStep, deadline: float
    ) -> Awaitable[Ended | None]:
        """As `_call`, if the step's breaker lets it. None: it is not wanted any more.

        A breaker that asks a store may answer only when another branch has failed, or the claim is lost.
        """
        assert leaf.breaker is not None  # noqa: S101 - else `_call` is called
        storage = self.journal.storage
        shares = self.definition.shares_circuits  # asked first, since it is the quicker question
        circuits = storage if shares and isinstance(storage, CircuitStore) else None
        attempt = leaf.breaker.attempt(f"{self.definition.name}:{leaf.path}", circuits)
        progress = self.journal.progress

        def calling() -> Awaitable[Ended]:
            self._refuse_if_lost()
            if progress.back and progress.goes_back(leaf):
                raise CallStopped
            return self._call(leaf, method, current, deadline)

        return call_through(attempt, calling, partial(self._said_of_service, leaf), current)

    def _said_of_service(self, leaf: Leaf, ended: Ended) -> BaseException | None:
        """What a breaker is told: the error of a failure, or what is neither failure nor success.

        Raises `StaleFence` if the claim was lost in the call.
        """
        if ended.how is not How.CANCELLED:
            self._refuse_if_lost()
        if ended.cancelled is not None or ended.how is How.RETURNED:
            return ended.cancelled
        error = self._own_error(leaf, ended)
        return SaysNothing() if ended.how is How.NOT_REACHED or is_own_timeout(ended, error) else error

    def _own_error(self, leaf: Leaf, ended: Ended) -> BaseException:
        """The exception that the caller will see for this end."""
        if ended.how in (How.TIMED_OUT, How.STILL_RUNNING, How.NOT_CALLED):
            error = self._timeout_error(leaf)
            error.__cause__ = ended.error
            return error
        return ended.error or ended.cancelled or StaleFence(self.journal.saga_id, self.journal.progress.fence)

    def _deadline_of(self, leaf: Leaf) -> float:
        """The saga's, where it counts for a step: not for a pivot, not after one, and not on the way back."""
        progress = self.journal.progress
        return math.inf if leaf.pivot or progress.pivot or progress.goes_back(leaf) else self.deadline

    def _timeout_error(self, leaf: Leaf) -> BaseException:
        saga, saga_id = self.definition.name, self.journal.saga_id
        if current_time() >= self._deadline_of(leaf):
            return SagaTimeout(saga, saga_id, self.run.limit)
        # Without a limit of its own it was cancelled, and its thread had no more than the grace to end.
        return StepTimeout(saga, saga_id, leaf.name, self.definition.grace if leaf.timeout is None else leaf.timeout)


def _raise_again(ended: Ended) -> None:
    """Raise the cancellation that came out of a call, now that its end is recorded."""
    if ended.cancelled is not None:
        raise ended.cancelled
