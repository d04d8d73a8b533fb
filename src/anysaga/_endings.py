"""How a call ended, as entries of the log: pure bookkeeping, which awaits nothing."""

from __future__ import annotations

from attrs import define

from anysaga._calls import Ended, How
from anysaga._cancellations import asks_to_end
from anysaga._current import CurrentStep
from anysaga._decisions import Back, may_act_again
from anysaga._definition import Definition
from anysaga._errors import ContextConflict, NotStorable, SagaTimeout
from anysaga._journal import Journal
from anysaga._live_context import LiveContext
from anysaga._nodes import ROOT, Leaf
from anysaga._notes import add_note
from anysaga._progress import clashes_at
from anysaga._records import EntryKind, Outcome, StoredEvent
from anysaga._results import StepResult
from anysaga._retry import Retry
from anysaga._run import Parking, Run


@define(eq=False, repr=False)
class Endings:
    """Notes the ends of acts and undos of one branch."""

    definition: Definition
    journal: Journal
    context: LiveContext
    run: Run

    def not_returned(self, leaf: Leaf, attempt: int, ended: Ended, error: BaseException) -> Back | None:
        """Note WITHDRAWN, NOT_DONE or UNKNOWN. Returns how to go back if no retry and no fallback may follow."""
        progress = self.journal.progress
        if ended.how is How.NOT_CALLED and ended.cancelled is not None:
            self.journal.note(EntryKind.WITHDRAWN, leaf.path)
            return None
        goes_back = progress.goes_back(leaf)
        self._failed(leaf, attempt, ended, error)
        if ended.how is How.CANCELLED:
            return None
        if ended.how is How.STILL_RUNNING:
            self.park_running(leaf, ended)
        if self._is_final(leaf, ended):
            self.run.failed(leaf, error)
        return Back(ROOT, self.context.in_words(error)) if is_own_timeout(ended, error) and not goes_back else None

    def _is_final(self, leaf: Leaf, ended: Ended) -> bool:
        """Whether no other attempt follows: an error that a retry may mend is not why a saga goes back."""
        progress = self.journal.progress
        if ended.how is How.STILL_RUNNING or progress.goes_back(leaf):
            return True
        return not may_act_again(leaf, progress.of(leaf.path), progress.fence)

    def _failed(self, leaf: Leaf, attempt: int, ended: Ended, error: BaseException) -> None:
        progress = self.journal.progress
        refused = ended.how is How.REFUSED
        uncalled = refused or ended.how in (How.NOT_CALLED, How.NOT_REACHED)
        clean = uncalled or (ended.how is How.RAISED and leaf.is_clean(error))
        forgiven = progress.of(leaf.path).forgiven
        final = is_own_timeout(ended, error) or refused
        durable = progress.context_of(leaf).base
        # A thread that still runs may change the context at this very moment.
        text, problem = (None, "") if ended.how is How.STILL_RUNNING else self._context_or_none(durable)
        self.journal.note(
            EntryKind.NOT_DONE if clean else EntryKind.UNKNOWN,
            leaf.path,
            attempt=attempt,
            context=text,
            error=self.context.in_words(error) + problem,
            wait=None if final else self._wait(leaf.retry, attempt - forgiven, error),
            duration=ended.duration,
            caught=leaf.innermost_primary if refused else self._catcher(leaf, ended, error),
        )

    def _catcher(self, leaf: Leaf, ended: Ended, error: BaseException) -> str | None:
        if ended.how is How.CANCELLED or is_own_timeout(ended, error):
            return None
        return leaf.catcher(error)

    def done(self, leaf: Leaf, attempt: int, ended: Ended, current: CurrentStep) -> Back | None:
        """Note DONE; or UNKNOWN, and how to go back, if what the act made cannot be kept."""
        progress = self.journal.progress
        if current.lost_event is not None:
            return self.not_kept(leaf, attempt, current.lost_event)
        try:
            response = leaf.encode_response(ended.value)
            text = self.context.encode()
            if leaf.scope:
                self._refuse_clashes(leaf, text)
        except (NotStorable, ContextConflict) as error:
            return self.not_kept(leaf, attempt, error)
        self.journal.note(
            EntryKind.DONE,
            leaf.path,
            attempt=attempt,
            context=None if text == progress.context_of(leaf).base and not progress.rewritten else text,
            response=response,
            duration=ended.duration,
            events=self._kept(current.events) if current.events else (),
        )
        if not (progress.back and progress.goes_back(leaf)):
            result = StepResult(
                self.journal.saga_id, leaf.name, leaf.type, ended.value, attempt, ended.duration, leaf.source
            )
            self.run.done(leaf, result)
        return None

    def _refuse_clashes(self, leaf: Leaf, text: str) -> None:
        progress = self.journal.progress
        if progress.goes_back(leaf):
            return
        fields = clashes_at(progress, leaf, text)
        if fields:
            raise ContextConflict(self.definition.name, self.journal.saga_id, leaf.name, tuple(fields))

    def _kept(self, events: tuple[StoredEvent, ...]) -> tuple[StoredEvent, ...]:
        if any(event.held for event in events):
            self.journal.holds_events = True
        return events

    def not_kept(self, leaf: Leaf, attempt: int, error: Exception) -> Back | None:
        """The act took effect, and its result cannot be kept: no retry can mend that, so the saga goes back."""
        progress = self.journal.progress
        text, problem = self._context_or_none(progress.context_of(leaf).base)
        words = self.context.in_words(error)
        self.run.failed(leaf, error)
        self.journal.note(EntryKind.UNKNOWN, leaf.path, attempt=attempt, context=text, error=words + problem)
        if leaf.pivot or progress.pivot is not None:
            self.run.parks.append(Parking(leaf.path, f"what the step made cannot be stored: {words}"))
            return None
        return None if progress.going_back else Back(ROOT, f"step {leaf.name!r} failed: {words}")

    def probed(self, leaf: Leaf, answer: Outcome, text: str | None) -> None:
        """Note what a probe answered, and the result if the step is done by that. Its response is lost: None."""
        progress = self.journal.progress
        step, goes_back = progress.of(leaf.path), progress.goes_back(leaf)
        if answer is Outcome.DONE and not goes_back:
            context = progress.context_of(leaf)
            try:
                self._refuse_clashes(leaf, context.base if step.intent else context.current)
            except (NotStorable, ContextConflict) as error:
                answer, text = Outcome.UNKNOWN, f"it is done, but its context cannot be merged: {error}"
        self.journal.note(EntryKind.PROBED, leaf.path, outcome=answer, error=text)
        if answer is Outcome.DONE and not goes_back:
            saga_id = self.journal.saga_id
            self.run.done(leaf, StepResult(saga_id, leaf.name, leaf.type, None, step.attempts, 0.0, leaf.source))

    def park_running(self, leaf: Leaf, ended: Ended) -> None:
        """Have the saga wait for a person: a thread that works on its context did not end."""
        reason = f"its thread is still running {self.definition.grace:g} seconds after it was asked to end"
        self.run.parks.append(Parking(leaf.path, reason, ended.thread))

    def undone(self, leaf: Leaf, attempt: int, ended: Ended, durable: str, current: CurrentStep) -> None:
        """Note UNDONE, with what the undo wrote into a context that was `durable`."""
        text = self._context_or_none(durable)[0]
        self.journal.note(
            EntryKind.UNDONE,
            leaf.path,
            attempt=attempt,
            context=text,
            duration=ended.duration,
            events=self._kept(current.events) if current.events else (),
        )

    def undo_failed(self, leaf: Leaf, attempt: int, ended: Ended, error: BaseException) -> None:
        """Note UNDO_FAILED."""
        wait = self._wait(leaf.compensate_retry, attempt - self.journal.progress.of(leaf.path).undo_forgiven, error)
        text = self.context.in_words(error)
        self.journal.note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempt, error=text, wait=wait)
        if ended.how is How.STILL_RUNNING:
            self.park_running(leaf, ended)

    def _wait(self, retry: Retry | None, attempt: int, error: BaseException) -> float | None:
        """Seconds until the next attempt, or None. A cancellation is no failure of the step: `on` is not asked."""
        if retry is None:
            return None
        try:
            again = asks_to_end(error) or retry.matches(error)
            return retry.wait_after(attempt) if again else None
        except Exception as problem:  # noqa: BLE001 - a user's function may raise anything
            add_note(error, f"Retry.on could not judge this error: {self.context.in_words(problem)}")
            return None

    def _context_or_none(self, durable: str) -> tuple[str | None, str]:
        """The context's text if it can be stored and changed, and what to say if it cannot."""
        try:
            text = self.context.encode()
        except NotStorable as error:
            return None, f" (its context was not kept: {self.context.in_words(error)})"
        return (None if text == durable else text), ""


def is_own_timeout(ended: Ended, error: BaseException) -> bool:
    """Whether the saga's own time ran out. An act may raise the `SagaTimeout` of another saga, which it ran."""
    return isinstance(error, SagaTimeout) and error is not ended.error
