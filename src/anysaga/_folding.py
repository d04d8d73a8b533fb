"""What each kind of entry means for the progress of a saga: the only place that says so.

Nothing here awaits, reads a clock or touches a store. `apply` folds one entry in constant time, whatever the length
of the log; a live run, a resume and a recovery fold the same entries to the same progress.
"""

from __future__ import annotations

from anysaga._errors import StepLost
from anysaga._merging import merge
from anysaga._nodes import ROOT, Above, Leaf, is_below
from anysaga._progress import Copy, Progress, may_undo
from anysaga._records import Entry, EntryKind, Outcome, SagaState
from anysaga._snapshot import is_too_big


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
    if not (progress.back and progress.goes_back(leaf)):
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
    if progress.parked is not None:  # so a person sends it back, who wants undone what could not be
        progress.parked = None
        _forgive_undos(progress)
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
            merged = merge(copy.origin, outer.current, copy.current)
            if not is_too_big(merged):  # what no store takes is left out: nobody could read it, and undo the rest
                outer.current = merged
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
    for path, step in progress.steps.items():
        # After a pivot branches of a Parallel wait for a person each for itself, and one path is in the log.
        waits = progress.pivot is not None and step.outcome is not Outcome.DONE and step.caught is None
        if waits or path == entry.path:
            step.forgiven = step.attempts
            step.wait = 0.0
    _forgive_undos(progress)


def _forgive_undos(progress: Progress) -> None:
    for path, step in progress.steps.items():
        if step.undo_attempts and not step.undone:
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
    for part in reversed(leaf.above):
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
