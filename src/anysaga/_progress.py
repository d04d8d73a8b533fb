"""What the log of a saga says so far: the fold of its entries.

This file holds what each kind of entry means, and nothing else does; `_decisions` holds what follows from it.
Nothing here awaits, reads a clock or touches a store. `apply` folds one entry in constant time, whatever the length
of the log; a live run, a resume and a recovery fold the same entries to the same progress.
"""

from __future__ import annotations

from attrs import define, field

from anysaga._definition import Definition
from anysaga._errors import StepLost
from anysaga._merging import clashes, merge
from anysaga._nodes import ROOT, Above, Leaf, Node, is_below
from anysaga._records import Entry, EntryKind, Outcome, SagaState


@define(eq=False, repr=False)
class StepProgress:
    """What the log says about one step.

    `attempts` counts STARTED that were not withdrawn. `intent` is the fence of an intent without an outcome, 0 if
    there is none: the current fence says that this owner has not called it yet, an older one that it was lost.
    `intent_before` is what `intent` was before the last STARTED, and a WITHDRAWN brings it back; so for `undo_intent`.
    `doubt` stays once an attempt was unknown, until one is done, a probe answers or a person does.
    `wait` is the stored pause before the next attempt, None where the policy refuses one. `caught` is the path of the
    primary that goes back if no other attempt follows. `forgiven` attempts do not count any more, because a person
    asked for a retry.
    """

    attempts: int = 0
    intent: int = 0
    intent_before: int = 0
    outcome: Outcome | None = None
    doubt: bool = False
    probed: bool = False
    wait: float | None = None
    caught: str | None = None
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
class Copy:
    """The context of one branch of a Parallel, as JSON text.

    `origin` is what it was copied from: what differs from it is merged. `base` and `current` are those of `Progress`.
    `merged` says that the branch is done, `goes_back` that its undo has begun.
    """

    origin: str
    base: str
    current: str
    merged: bool = False
    goes_back: bool = False


@define(eq=False, repr=False)
class Progress:
    """Where a saga stands, by its log.

    `position` is the index of the first top-level node that is not done. `back` has the cause of going back for each
    path that does. No node from `undo_position` + 1 on has anything left to undo. `base` is the context that an act
    starts from, `current` the one that an undo sees, both JSON text; a branch of a Parallel has a `Copy`. `open` are
    the steps with an intent to act or to undo and no outcome of it. `done` and `undone` are in the order of the log;
    what is undone stays in `done`. `snapshots` are contexts as they were when a Fallback or a Parallel began, by its
    path.
    """

    definition: Definition
    base: str
    current: str
    fence: int
    steps: dict[str, StepProgress] = field(factory=dict)
    position: int = 0
    pivot: str | None = None
    back: dict[str, str] = field(factory=dict)
    open: dict[str, Leaf] = field(factory=dict)
    copies: dict[str, Copy] = field(factory=dict)
    snapshots: dict[str, str] = field(factory=dict)
    parts_done: dict[str, int] = field(factory=dict)
    begun: bool = False
    undo_position: int = -1
    done: list[Leaf] = field(factory=list)
    undone: list[str] = field(factory=list)
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

    def context_of(self, leaf: Leaf) -> Progress | Copy:
        """Where the context is kept that a step works on."""
        return self.copies[leaf.scope] if leaf.scope else self

    def context_at(self, scope: str) -> Progress | Copy:
        """Where the context of a scope is kept: a branch of a Parallel, or the whole saga."""
        return self.copies[scope] if scope else self

    def goes_back(self, leaf: Leaf) -> bool:
        """Whether a step is below a BACK, so that it does not act any more."""
        return any(path in self.back for path in leaf.backs)

    def is_back(self, path: str) -> bool:
        """Whether everything at a path goes back."""
        return any(is_below(path, back) for back in self.back)

    @property
    def chosen(self) -> list[Leaf]:
        """The steps that did the work: those that are done, without primaries that a fallback took over from."""
        return [leaf for leaf in self.done if not any(path in self.back for path in leaf.backs[1:])]

    def is_done(self, node: Node) -> bool:
        """Whether a node did its work."""
        if not isinstance(node, Leaf):
            return self.parts_done.get(node.path, 0) == node.size
        found = self.steps.get(node.path)
        return found is not None and found.outcome is Outcome.DONE

    @property
    def state(self) -> SagaState:
        """The saga's state, as the store shows it."""
        if self.end is not None:
            return self.end
        if self.parked is not None:
            return SagaState.PARKED
        if ROOT in self.back:
            return SagaState.COMPENSATING
        return SagaState.RUNNING if self.begun else SagaState.PENDING

    @property
    def going_back(self) -> bool:
        """Whether the whole saga is being undone."""
        return ROOT in self.back


def apply(progress: Progress, entry: Entry) -> None:
    """Fold one entry into the progress. An entry changes the progress in place, so that a fold costs linear time."""
    _FOLDS[entry.kind](progress, entry)


def _started(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    progress.begun = True
    if leaf.above:
        _enter(progress, leaf)
    if step.intent:
        step.doubt = True
    step.attempts = entry.attempt
    step.intent_before, step.intent = step.intent, entry.fence
    step.probed = False
    progress.open[entry.path] = leaf


def _enter(progress: Progress, leaf: Leaf) -> None:
    """Remember the contexts that the nodes above a step began with, and give each branch its own."""
    for above in leaf.above:
        context = progress.context_at(above.scope)
        snapshot = progress.snapshots.setdefault(above.path, context.base)
        if above.parallel:
            if above.branch not in progress.copies:
                progress.copies[above.branch] = Copy(snapshot, snapshot, snapshot)
        elif not above.falls_back and above.branch not in progress.snapshots:
            progress.snapshots[above.branch] = context.base = context.current = snapshot


def _checkpoint(progress: Progress, entry: Entry) -> None:
    context = progress.context_of(progress.definition.by_path[entry.path])
    context.base = context.current = entry.context or context.base


def _done(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    step.intent = 0
    step.doubt = False
    step.outcome = Outcome.DONE
    step.response = entry.response
    step.duration = entry.duration
    progress.done.append(leaf)
    progress.open.pop(entry.path, None)
    context = progress.context_of(leaf)
    context.base = context.current = entry.context or context.base
    if not progress.goes_back(leaf):
        _complete(progress, leaf)


def _failed(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    step.intent = 0
    step.doubt = step.doubt or entry.kind is EntryKind.UNKNOWN
    step.outcome = Outcome.UNKNOWN if step.doubt else Outcome.NOT_DONE
    step.wait = entry.wait
    step.caught = entry.caught
    step.ended_at = entry.at
    step.error = entry.error
    progress.open.pop(entry.path, None)
    context = progress.context_of(leaf)
    context.current = entry.context or context.base


def _withdrawn(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    if step.undo_intent:
        step.undo_intent = step.undo_intent_before
        step.undo_attempts -= 1
    else:
        step.intent = step.intent_before
        step.attempts -= 1
    if not (step.intent or step.undo_intent):
        progress.open.pop(entry.path, None)


def _probed(progress: Progress, entry: Entry) -> None:
    step = progress.of(entry.path)
    step.probed = True
    if entry.outcome is not Outcome.UNKNOWN:
        _settle(progress, entry)


def _settle(progress: Progress, entry: Entry) -> None:
    """A probe or a person says what became of a step in doubt."""
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    context, goes_back = progress.context_of(leaf), progress.goes_back(leaf)
    was_done = step.outcome is Outcome.DONE
    if step.intent:
        step.caught = leaf.catcher(StepLost(leaf.name))
        if not goes_back:
            context.current = context.base
    step.intent = 0
    step.doubt = False
    step.outcome = entry.outcome
    step.wait = None
    progress.open.pop(entry.path, None)
    if entry.outcome is Outcome.DONE and not (goes_back or was_done):
        context.base = context.current
        progress.done.append(leaf)
        _complete(progress, leaf)
    progress.undo_position = _top(progress)


def _back(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    progress.back[entry.path] = entry.error or ""
    progress.undo_position = _top(progress)
    for path, leaf in progress.open.items():
        if is_below(path, entry.path) and progress.of(path).intent:
            context = progress.context_of(leaf)
            context.current = context.base


def _top(progress: Progress) -> int:
    """The last node that may have begun."""
    return min(progress.position, len(progress.definition.steps) - 1)


def _undo_started(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    step.undo_attempts = entry.attempt
    step.undo_intent_before, step.undo_intent = step.undo_intent, entry.fence
    progress.open[entry.path] = leaf
    if ROOT in progress.back:
        progress.undo_position = leaf.place
    for above in leaf.above:
        if above.parallel and progress.is_back(above.branch):
            _turn(progress, above)


def _turn(progress: Progress, above: Above) -> None:
    """A branch that goes back begins to be undone: if it was merged, in what became of the context since."""
    copy = progress.copies[above.branch]
    if copy.merged and not copy.goes_back:
        copy.origin = copy.base = copy.current = progress.context_at(above.scope).current
    copy.goes_back = True


def _undone(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    step.undo_intent = 0
    step.undone = True
    progress.open.pop(entry.path, None)
    progress.undone.append(leaf.name)
    context = progress.context_of(leaf)
    context.current = entry.context or context.current
    for above in reversed(leaf.above):
        if above.parallel and progress.is_back(above.branch):
            copy, outer = progress.copies[above.branch], progress.context_at(above.scope)
            outer.current = merge(copy.origin, outer.current, copy.current)
            copy.origin = copy.current  # so that another undo in this branch does not bring it a second time


def _undo_failed(progress: Progress, entry: Entry) -> None:
    leaf, step = progress.definition.by_path[entry.path], progress.of(entry.path)
    step.undo_intent = 0
    step.undo_wait = entry.wait
    step.ended_at = entry.at
    step.undo_error = entry.error
    progress.open.pop(entry.path, None)
    if progress.definition.on_undo_failure == "continue" and not may_undo(leaf, step, progress.fence):
        progress.given_up[entry.path] = entry.error or ""


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
    if entry.outcome is Outcome.NOT_DONE and step.undo_attempts and not step.undone:
        step.undone = True
        progress.undone.append(progress.definition.by_path[entry.path].name)
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
    progress.given_up.pop(path, None)
    progress.undo_position = _top(progress)


def _ended(progress: Progress, entry: Entry) -> None:
    progress.parked = None
    progress.end = SagaState(entry.kind.value)
    progress.end_text = entry.error


def _note(progress: Progress, entry: Entry) -> None:
    """A remark for people; it changes nothing."""


def _complete(progress: Progress, leaf: Leaf) -> None:
    """A step is done, and with it perhaps nodes above it: each branch of a Parallel is merged once it is done."""
    above = list(leaf.above)
    while above:
        part = above.pop()
        if part.parallel:
            copy = progress.copies[part.branch]
            outer = progress.context_at(part.scope)
            outer.base = outer.current = merge(copy.origin, outer.base, copy.base)
            copy.merged = True
        done = progress.parts_done[part.path] = progress.parts_done.get(part.path, 0) + 1
        if done < part.size:
            return
        progress.snapshots.pop(part.path, None)
    if leaf.pivot:
        progress.pivot = leaf.name
    progress.position += 1


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


def clashes_at(progress: Progress, leaf: Leaf, text: str) -> list[str]:
    """The fields of the context that two branches of a Parallel would have changed, were this step done with `text`."""
    for above in reversed(leaf.above):
        if above.parallel:
            copy, outer = progress.copies[above.branch], progress.context_at(above.scope)
            fields = clashes(copy.origin, outer.base, text)
            if fields:
                return fields
            text = merge(copy.origin, outer.base, text)
        if progress.parts_done.get(above.path, 0) + 1 < above.size:
            return []
    return []
