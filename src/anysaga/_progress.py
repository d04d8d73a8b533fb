"""What the log of a saga says so far: the fold of its entries.

This file holds what each kind of entry means, and nothing else does; `_decisions` holds what follows from it.
Nothing here awaits, reads a clock or touches a store. `apply` folds one entry in constant time, whatever the length
of the log; a live run, a resume and a recovery fold the same entries to the same progress.
"""

from __future__ import annotations

from attrs import define, field

from anysaga._definition import Definition, Leaf
from anysaga._records import Entry, EntryKind, Outcome, SagaState

ROOT = ""
"""The path of the whole saga, where BACK stands when everything is undone."""


@define(eq=False, repr=False)
class StepProgress:
    """What the log says about one step.

    `attempts` counts STARTED that were not withdrawn. `intent` is the fence of an intent without an outcome, 0 if
    there is none: the current fence says that this owner has not called it yet, an older one that it was lost.
    `intent_before` is what `intent` was before the last STARTED, and a WITHDRAWN brings it back; so for `undo_intent`.
    `doubt` stays once an attempt was unknown, until one is done, a probe answers or a person does.
    `wait` is the stored pause before the next attempt, None where the policy refuses one. `forgiven` attempts do not
    count any more, because a person asked for a retry.
    """

    attempts: int = 0
    intent: int = 0
    intent_before: int = 0
    outcome: Outcome | None = None
    doubt: bool = False
    probed: bool = False
    wait: float | None = None
    ended_at: int = 0
    forgiven: int = 0
    error: str | None = None
    response: str | None = None
    duration: float | None = None
    undo_attempts: int = 0
    undo_intent: int = 0
    undo_intent_before: int = 0
    undo_wait: float | None = 0.0
    undo_forgiven: int = 0
    undo_error: str | None = None
    undone: bool = False

    def lost(self, fence: int) -> bool:
        """Whether the last attempt ended with its owner: an intent of an older fence without an outcome."""
        return 0 < self.intent < fence

    def in_doubt(self, fence: int) -> bool:
        """Whether nobody can say if the step took effect."""
        return self.outcome is not Outcome.DONE and (self.doubt or self.lost(fence))

    def waits_for_undo(self, leaf: Leaf) -> bool:
        """Whether going back must still undo this step."""
        if leaf.read_only or self.undone:
            return False
        return self.outcome is Outcome.DONE or self.doubt or self.intent != 0


@define(eq=False, repr=False)
class Progress:
    """Where a saga stands, by its log.

    `position` is the index of the first top-level step that is not DONE. `back` has the cause of going back for each
    path that does. `to_undo` is a stack: its last step is undone next. `base` is the context that an act starts from,
    `current` the one that an undo sees, both JSON text.
    """

    definition: Definition
    base: str
    current: str
    fence: int
    steps: dict[str, StepProgress] = field(factory=dict)
    position: int = 0
    pivot: str | None = None
    back: dict[str, str] = field(factory=dict)
    started: list[str] = field(factory=list)
    to_undo: list[str] = field(factory=list)
    given_up: dict[str, str] = field(factory=dict)
    parked: tuple[str, str] | None = None
    end: SagaState | None = None
    end_text: str | None = None

    def of(self, path: str) -> StepProgress:
        """What the log says about the step at `path`; nothing yet is a valid answer."""
        found = self.steps.get(path)
        if found is None:
            found = self.steps[path] = StepProgress()
        return found

    @property
    def state(self) -> SagaState:
        """The saga's state, as the store shows it."""
        if self.end is not None:
            return self.end
        if self.parked is not None:
            return SagaState.PARKED
        if ROOT in self.back:
            return SagaState.COMPENSATING
        return SagaState.RUNNING if self.started else SagaState.PENDING

    @property
    def going_back(self) -> bool:
        """Whether the whole saga is being undone."""
        return ROOT in self.back

    @property
    def undone(self) -> list[str]:
        """Names of the steps that were undone, the first undone first."""
        paths = (path for path in reversed(self.started) if self.steps[path].undone)
        return [self.definition.by_path[path].name for path in paths]


def apply(progress: Progress, entry: Entry) -> None:
    """Fold one entry into the progress. An entry changes the progress in place, so that a fold costs linear time."""
    _FOLDS[entry.kind](progress, entry)


def _started(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    if step.intent:
        step.doubt = True
    if not step.attempts and entry.path not in progress.started[-1:]:
        progress.started.append(entry.path)
    step.attempts = entry.attempt
    step.intent_before, step.intent = step.intent, entry.fence
    step.probed = False


def _checkpoint(progress: Progress, entry: Entry) -> None:
    progress.base = progress.current = entry.context or progress.base


def _done(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.intent = 0
    step.doubt = False
    step.outcome = Outcome.DONE
    step.response = entry.response
    step.duration = entry.duration
    progress.base = progress.current = entry.context or progress.base
    _advance(progress)


def _failed(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.intent = 0
    step.doubt = step.doubt or entry.kind is EntryKind.UNKNOWN
    step.outcome = Outcome.UNKNOWN if step.doubt else Outcome.NOT_DONE
    step.wait = entry.wait
    step.ended_at = entry.at
    step.error = entry.error
    progress.current = entry.context or progress.base


def _withdrawn(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    if step.undo_intent:
        step.undo_intent = step.undo_intent_before
        step.undo_attempts -= 1
        return
    step.intent = step.intent_before
    step.attempts -= 1


def _probed(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.probed = True
    if entry.outcome is not Outcome.UNKNOWN:
        _settle(progress, entry)


def _settle(progress: Progress, entry: Entry) -> None:
    """A probe or a person says what became of a step in doubt."""
    step = progress.of(entry.path)
    if step.intent and not progress.going_back:
        progress.current = progress.base
    step.intent = 0
    step.doubt = False
    step.outcome = entry.outcome
    step.wait = None
    if entry.outcome is Outcome.DONE and not progress.going_back:
        progress.base = progress.current
        _advance(progress)
    _drop_settled(progress)


def _back(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    progress.back[entry.path] = entry.error or ""
    if entry.path != ROOT:
        return
    if any(progress.of(path).intent for path in progress.started[-1:]):
        progress.current = progress.base
    progress.to_undo = list(progress.started)
    _drop_settled(progress)


def _undo_started(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.undo_attempts = entry.attempt
    step.undo_intent_before, step.undo_intent = step.undo_intent, entry.fence


def _undone(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.undo_intent = 0
    step.undone = True
    progress.current = entry.context or progress.current
    _drop_settled(progress)


def _undo_failed(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.undo_intent = 0
    step.undo_wait = entry.wait
    step.ended_at = entry.at
    step.undo_error = entry.error
    if progress.definition.on_undo_failure == "continue" and not _may_undo_again(progress, entry.path):
        progress.to_undo.pop()
        progress.given_up[entry.path] = entry.error or ""
        _drop_settled(progress)


def _may_undo_again(progress: Progress, path: str) -> bool:
    return may_undo(progress.definition.by_path[path], progress.of(path), progress.fence)


def may_undo(leaf: Leaf, step: StepProgress, fence: int) -> bool:
    """Whether the policy allows another attempt to undo.

    An attempt that was lost with its process says nothing about the undo, so one more is always allowed after it.
    """
    lost = 0 < step.undo_intent < fence
    spent = step.undo_attempts - step.undo_forgiven
    if lost:
        return spent <= leaf.compensate_retry.attempts
    return step.undo_wait is not None and spent < leaf.compensate_retry.attempts


def _parked(progress: Progress, entry: Entry) -> None:
    progress.parked = (entry.path, entry.error or "")


def _resolved(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    step = progress.of(entry.path)
    _forgive_undo(progress, entry.path)
    if entry.outcome is Outcome.NOT_DONE and step.undo_attempts:
        step.undone = True
    _settle(progress, entry)


def _retried(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    if not entry.path:
        return
    step = progress.of(entry.path)
    step.forgiven = step.attempts
    step.wait = 0.0
    for path in [*reversed(progress.given_up), entry.path]:
        _forgive_undo(progress, path)


def _forgive_undo(progress: Progress, path: str) -> None:
    step = progress.of(path)
    step.undo_forgiven = step.undo_attempts
    step.undo_wait = 0.0
    step.undo_intent = 0
    if progress.given_up.pop(path, None) is not None:
        progress.to_undo.append(path)


def _ended(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    progress.end = SagaState(entry.kind.value)
    progress.end_text = entry.error


def _note(progress: Progress, entry: Entry) -> None:
    """A remark for people; it changes nothing."""


def _advance(progress: Progress) -> None:
    leaves = progress.definition.steps
    while progress.position < len(leaves):
        leaf = leaves[progress.position]
        found = progress.steps.get(leaf.path)
        if found is None or found.outcome is not Outcome.DONE:
            return
        if leaf.pivot:
            progress.pivot = leaf.name
        progress.position += 1


def _drop_settled(progress: Progress) -> None:
    """Take steps off the stack that need no undo, so that its last one is always the next to undo."""
    if not progress.going_back:
        return
    stack = progress.to_undo
    by_path = progress.definition.by_path
    while stack and not progress.of(stack[-1]).waits_for_undo(by_path[stack[-1]]):
        stack.pop()


_FOLDS = {
    EntryKind.STARTED: _started,
    EntryKind.CHECKPOINT: _checkpoint,
    EntryKind.DONE: _done,
    EntryKind.NOT_DONE: _failed,
    EntryKind.UNKNOWN: _failed,
    EntryKind.WITHDRAWN: _withdrawn,
    EntryKind.PROBED: _probed,
    EntryKind.BACK: _back,
    EntryKind.UNDO_STARTED: _undo_started,
    EntryKind.UNDONE: _undone,
    EntryKind.UNDO_FAILED: _undo_failed,
    EntryKind.PARKED: _parked,
    EntryKind.RESOLVED: _resolved,
    EntryKind.RETRIED: _retried,
    EntryKind.COMPLETED: _ended,
    EntryKind.COMPENSATED: _ended,
    EntryKind.ABANDONED: _ended,
    EntryKind.NOTE: _note,
}
