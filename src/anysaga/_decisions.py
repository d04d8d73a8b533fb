"""What a saga does next. Every rule that chooses stands in this file, and nowhere else.

`decide` looks at what the log says and answers with one value. It awaits nothing, reads no clock and knows no store;
the driver carries the answer out. A first run, a resume, a recovery and a live failure ask the same function, so they
cannot differ. What the entries of the log mean is `_progress`.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from anysaga._definition import Leaf
from anysaga._progress import ROOT, Progress, StepProgress, may_undo
from anysaga._records import Outcome, SagaState


@frozen
class Act:
    """Call `act`, as attempt number `attempt`, not before the moment `not_before` (µs; 0 is at once).

    `intent_written` tells that the log has the intent of this attempt already.
    """

    leaf: Leaf
    attempt: int
    not_before: int = 0
    intent_written: bool = False


@frozen
class Probe:
    """Ask the step whether its act in doubt took effect."""

    leaf: Leaf


@frozen
class Back:
    """Go back at `path`, because of `cause`."""

    path: str
    cause: str


@frozen
class Compensate:
    """Call `compensate`, as attempt number `attempt`, not before `not_before` (µs; 0 is at once)."""

    leaf: Leaf
    attempt: int
    outcome: Outcome
    not_before: int = 0
    intent_written: bool = False


@frozen
class GiveUp:
    """Leave this step as it is, and undo the rest: its compensation failed `attempts` times, because of `cause`."""

    leaf: Leaf
    attempts: int
    cause: str


@frozen
class Finish:
    """The saga is over."""

    state: SagaState


@frozen
class Park:
    """The saga waits for a person."""

    path: str
    reason: str


Decision: TypeAlias = Act | Probe | Back | Compensate | GiveUp | Finish | Park


def decide(progress: Progress) -> Decision:
    """What comes next for a live saga. Costs the same at step 1,000 as at step 1."""
    if progress.going_back:
        return _backward(progress)
    leaves = progress.definition.steps
    if progress.position == len(leaves):
        return Finish(SagaState.COMPLETED)
    return _forward(progress, leaves[progress.position])


def can_go_back(progress: Progress) -> bool:
    """Whether `abort`, a cancellation or the deadline may undo the saga.

    Not after a pivot is DONE, and not while one is in doubt: a pivot is never undone.
    """
    return progress.pivot is None and pivot_in_doubt(progress) is None


def pivot_in_doubt(progress: Progress) -> Leaf | None:
    """The pivot that was called and of which nobody knows what became of it."""
    leaves = progress.definition.steps
    if progress.going_back or progress.position == len(leaves):
        return None
    leaf = leaves[progress.position]
    return leaf if leaf.pivot and progress.of(leaf.path).in_doubt(progress.fence) else None


def uncalled(progress: Progress) -> Leaf | None:
    """The step whose intent is written, and whose act or undo this owner has not called."""
    match decide(progress):
        case Act(leaf, intent_written=True) | Compensate(leaf, intent_written=True):
            return leaf
        case _:
            return None


def _forward(progress: Progress, leaf: Leaf) -> Decision:
    step = progress.of(leaf.path)
    if step.intent == progress.fence:
        return Act(leaf, step.attempts, intent_written=True)
    if step.attempts == 0:
        return Act(leaf, 1)
    if _may_act_again(leaf, step, progress.fence):
        return Act(leaf, step.attempts + 1, _moment(step.ended_at, step.wait))
    if step.in_doubt(progress.fence):
        return _in_doubt(progress, leaf, step)
    return _give_up(progress, leaf, _cause(leaf, step))


def _may_act_again(leaf: Leaf, step: StepProgress, fence: int) -> bool:
    spent = step.attempts - step.forgiven
    lost = step.lost(fence)
    if spent == 0:
        return True
    if leaf.retry is not None:
        return (lost or step.wait is not None) and spent < leaf.retry.attempts
    return lost and spent == 1 and not leaf.pivot and not leaf.probes


def _in_doubt(progress: Progress, leaf: Leaf, step: StepProgress) -> Decision:
    if leaf.probes and not step.probed:
        return Probe(leaf)
    cause = _cause(leaf, step)
    if leaf.pivot:
        return Park(leaf.path, f"nobody can say whether this point of no return took effect ({cause})")
    return _give_up(progress, leaf, cause)


def _give_up(progress: Progress, leaf: Leaf, cause: str) -> Decision:
    if progress.pivot is None:
        return Back(ROOT, cause)
    return Park(leaf.path, f"it comes after the pivot {progress.pivot!r}, so it cannot be undone, and its {cause}")


def _backward(progress: Progress) -> Decision:
    if not progress.to_undo:
        return _all_undone(progress)
    path = progress.to_undo[-1]
    leaf = progress.definition.by_path[path]
    step = progress.of(path)
    in_doubt = step.outcome is not Outcome.DONE
    if in_doubt and leaf.probes and not step.probed and not step.undo_attempts:
        return Probe(leaf)
    if leaf.pivot:
        return Park(path, "a point of no return is never undone: say what became of it")
    if step.undo_intent != progress.fence and not may_undo(leaf, step, progress.fence):
        return _undo_given_up(progress, leaf, step)
    outcome = Outcome.UNKNOWN if in_doubt else Outcome.DONE
    if step.undo_intent == progress.fence:
        return Compensate(leaf, step.undo_attempts, outcome, intent_written=True)
    return Compensate(leaf, step.undo_attempts + 1, outcome, _moment(step.ended_at, step.undo_wait))


def _undo_given_up(progress: Progress, leaf: Leaf, step: StepProgress) -> Decision:
    cause = step.undo_error or "its process died"
    if progress.definition.on_undo_failure == "continue":
        return GiveUp(leaf, step.undo_attempts, cause)
    return Park(leaf.path, f"its compensation failed {step.undo_attempts} times: {cause}")


def _all_undone(progress: Progress) -> Decision:
    if not progress.given_up:
        return Finish(SagaState.COMPENSATED)
    path, error = next(iter(progress.given_up.items()))
    names = ", ".join(repr(progress.definition.by_path[one].name) for one in progress.given_up)
    return Park(path, f"the compensation of {names} failed, all others were undone: {error}")


def _cause(leaf: Leaf, step: StepProgress) -> str:
    if step.error is None:
        return f"step {leaf.name!r} was lost with its process"
    return f"step {leaf.name!r} failed: {step.error}"


def _moment(ended_at: int, wait: float | None) -> int:
    return ended_at + round(wait * 1_000_000) if wait else 0
