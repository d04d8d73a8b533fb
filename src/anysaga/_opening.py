"""How a driver gets hold of a saga: a new one, one of a known id, or one that recovery has claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anyio import CancelScope
from attrs import define, evolve

from anysaga._definition import Definition
from anysaga._driver import Driver
from anysaga._errors import (
    AnysagaError,
    NotReadable,
    OperationRefused,
    SagaAbandoned,
    SagaCompensated,
    SagaMismatch,
    SagaParked,
)
from anysaga._folding import apply
from anysaga._journal import Journal
from anysaga._limits import MAX_CLAIMS
from anysaga._live_context import LiveContext
from anysaga._progress import Progress
from anysaga._records import Claim, Entry, EntryKind, SagaRecord, SagaState
from anysaga._results import SagaResult, StepResult
from anysaga._run import Run
from anysaga._step import Step
from anysaga._stepping import Stepping
from anysaga._submitting import new_saga, refuse_later_version, refuse_other_payload
from anysaga.abc import Storage


@define(eq=False, repr=False)
class Opened:
    """A saga that somebody may look at: with a driver if it is to be driven, without one if it is completed."""

    definition: Definition
    saga_id: str
    progress: Progress
    context: LiveContext
    driver: Driver | None = None

    def result(self) -> SagaResult[Any]:
        """The saga as it stands, with the results of all steps that are done."""
        progress = self.progress
        reason = progress.end_text or (progress.parked[1] if progress.parked else None)
        return SagaResult(self.saga_id, progress.state, self.context.value, tuple(self._steps()), reason)

    def _steps(self) -> list[StepResult[Any]]:
        live = self.driver.stepping.run.results if self.driver is not None else {}
        return [live.get(leaf.path) or _stored_result(self, leaf.path) for leaf in self.progress.chosen]


async def open_saga(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    context: Any,
    saga_id: str,
    *,
    notes: Sequence[str] = (),
    drains: bool = False,
) -> Opened:
    """Start the saga `saga_id` with `context`, or go on with the one that is stored under this id.

    With None as the context only a stored saga is opened. `notes` are kept in the log of a new one. Raises what
    `SagaTransaction` promises.
    """
    if context is not None:
        opened = await _start(definition, storage, steps, context, saga_id, notes=notes, drains=drains)
        if opened is not None:
            return opened
    return await _reopen(definition, storage, steps, context, saga_id, drains=drains)


async def adopt(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    claim: Claim,
    *,
    context: Any = None,
    drains: bool = False,
    spares: bool = False,
) -> Opened:
    """Take up a claimed saga where its log ends. The stored context wins over the caller's, which is filled in place.

    `park_misfit` has let it pass. Raises `SagaParked`, after parking it, if the log cannot be read.
    """
    try:
        return _take_up(definition, storage, steps, claim, context=context, drains=drains, spares=spares)
    except NotReadable as error:
        problem = str(error)
    raise await _park(definition, storage, claim, problem)


async def park_misfit(definition: Definition, storage: Storage, claim: Claim) -> None:
    """Raise `SagaParked`, after parking it, for a claimed saga of which one sees at once that nobody can drive it.

    Its log does not fit the code, or it killed its workers. To be asked before its steps are made.
    """
    problem = _misfit(definition, claim)
    if problem is not None:
        raise await _park(definition, storage, claim, problem)


def fold(definition: Definition, record: SagaRecord, fence: int) -> Progress:
    """The progress that a stored log tells, for the owner with this fence. Raises `NotReadable`.

    What earlier code wrote is folded as this code would write it: a field that was declared since is no change of
    whoever writes it first.
    """
    context = definition.codec.rewritten(record.context)
    progress = Progress(definition, base=context, current=context, fence=fence, rewritten=context != record.context)
    for entry in record.entries:
        try:
            apply(progress, _as_written_now(progress, entry))
        except (LookupError, ValueError) as error:
            where = f"the log of saga {definition.name!r}"
            raise NotReadable(where, f"entry {entry.seq} does not follow from those before it") from error
    return progress


def _as_written_now(progress: Progress, entry: Entry) -> Entry:
    context = None if entry.context is None else progress.definition.codec.rewritten(entry.context)
    if context == entry.context:
        return entry
    progress.rewritten = True
    return evolve(entry, context=context)


def _refuse_ended(definition: Definition, record: SagaRecord) -> None:
    """Raise the error of a saga that ended other than completed."""
    saga_id, note = record.summary.saga_id, record.summary.note or ""
    if record.summary.state is SagaState.PARKED:
        parked = [entry.path for entry in record.entries if entry.kind is EntryKind.PARKED]
        raise SagaParked(definition.name, saga_id, definition.name_at(parked[-1] if parked else ""), note)
    if record.summary.state is SagaState.COMPENSATED:
        raise SagaCompensated(definition.name, saga_id, note)
    if record.summary.state is SagaState.ABANDONED:
        raise SagaAbandoned(definition.name, saga_id, note)


async def _start(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    context: Any,
    saga_id: str,
    *,
    notes: Sequence[str],
    drains: bool,
) -> Opened | None:
    live = LiveContext(definition, context)
    text = live.encode()
    progress = Progress(definition, base=text, current=text, fence=1)
    journal = Journal(storage, progress, saga_id)
    driver = Driver(journal, Stepping(definition, journal, steps, live, run=Run(drains=drains)))
    driver.plan_first()
    for note in notes:
        journal.note(EntryKind.NOTE, error=note)
    new = new_saga(definition, saga_id, text, progress.state, *journal.pending)
    claim: Claim | None = None
    if storage.waits:
        with CancelScope(shield=True):
            claim = await storage.create(new)
    else:
        claim = await storage.create(new)
    if claim is None:
        return None
    journal.began(claim)
    driver.claimed()
    return Opened(definition, saga_id, progress, live, driver)


async def _reopen(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    context: Any,
    saga_id: str,
    *,
    drains: bool,
) -> Opened:
    record = await storage.load(saga_id)
    refuse_other_payload(definition, record, context)
    if not record.summary.state.is_end:
        refuse_later_version(definition, record)
        try:
            claim = await storage.claim(saga_id)
        except OperationRefused:
            record = await storage.load(saga_id)
        else:
            return await _adopt_or_drop(definition, storage, steps, claim, context, drains=drains)
    _refuse_ended(definition, record)
    difference = definition.difference(record.summary.name, record.summary.version, record.outline)
    if difference is not None:
        raise SagaMismatch(saga_id, difference)
    return ended(definition, record, context)


def ended(definition: Definition, record: SagaRecord, context: Any = None) -> Opened:
    """A saga that has ended, to be looked at. Its log fits the definition."""
    progress = fold(definition, record, record.summary.fence)
    text = progress.current if progress.going_back else progress.base
    return Opened(definition, record.summary.saga_id, progress, _live_context(definition, text, context))


def unread_result(saga_id: str, reason: str) -> SagaResult[Any]:
    """The result of a saga that is parked because its log cannot be read: without a context and without steps."""
    return SagaResult(saga_id, SagaState.PARKED, None, (), reason)


def _take_up(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    claim: Claim,
    *,
    context: Any,
    drains: bool,
    spares: bool,
) -> Opened:
    record = claim.record
    saga_id = record.summary.saga_id
    progress = fold(definition, record, claim.fence)
    live = _live_context(definition, progress.base, context)
    journal = Journal(storage, progress, saga_id, claim=claim, seq=record.summary.seq)
    driver = Driver(journal, Stepping(definition, journal, steps, live, run=Run(drains=drains, spares=spares)))
    opened = Opened(definition, saga_id, progress, live, driver)
    for leaf in progress.chosen:  # now, while the saga can be parked: its result has them all
        driver.stepping.run.results[leaf.path] = _stored_result(opened, leaf.path)
    driver.claimed()
    return opened


async def _adopt_or_drop(
    definition: Definition,
    storage: Storage,
    steps: Mapping[str, Step[Any, Any]],
    claim: Claim,
    context: Any,
    *,
    drains: bool,
) -> Opened:
    try:
        await park_misfit(definition, storage, claim)
        return await adopt(definition, storage, steps, claim, context=context, drains=drains)
    except SagaParked:
        raise
    except BaseException:
        storage.defer(claim)
        raise


def _live_context(definition: Definition, text: str, context: Any) -> LiveContext:
    if context is None:
        value = definition.codec.decode(text, where=definition.context_name)
        return LiveContext(definition, value, equals=text)
    definition.codec.restore(context, text, where=definition.context_name)
    return LiveContext(definition, context, equals=text)


def _misfit(definition: Definition, claim: Claim) -> str | None:
    summary = claim.record.summary
    if summary.claims > MAX_CLAIMS:
        return f"it was claimed {summary.claims} times without any outcome, so it may be killing its workers"
    if claim.record.problem is not None:
        return claim.record.problem
    difference = definition.difference(summary.name, summary.version, claim.record.outline)
    return None if difference is None else f"its log does not fit the code: {difference}"


async def _park(definition: Definition, storage: Storage, claim: Claim, reason: str) -> SagaParked:
    record = claim.record
    progress = Progress(definition, base=record.context, current=record.context, fence=claim.fence)
    journal = Journal(storage, progress, record.summary.saga_id, claim=claim, seq=record.summary.seq)
    journal.note(EntryKind.PARKED, error=reason)
    try:
        await journal.commit()
    except AnysagaError:
        journal.drop()
        raise
    return SagaParked(definition.name, record.summary.saga_id, "", reason)


def _stored_result(opened: Opened, path: str) -> StepResult[Any]:
    leaf = opened.definition.by_path[path]
    step = opened.progress.of(path)
    return StepResult(
        saga_id=opened.saga_id,
        step_name=leaf.name,
        step_type=leaf.type,
        response=leaf.decode_response(step.response),
        attempts=step.attempts,
        duration=step.duration or 0.0,
        source=leaf.source,
    )
