"""What a saga does next. Every rule that chooses stands in this file, and nowhere else.

`decide` looks at what the log says and answers with one value. It awaits nothing, reads no clock and knows no store;
the driver carries the answer out. A first run, a resume, a recovery and a live failure ask the same function, so they
cannot differ. What the entries of the log mean is in `_folding`.
"""

from __future__ import annotations

from typing import TypeAlias

from anysaga._errors import StepLost
from anysaga._nodes import ROOT, FallbackNode, Leaf, Node, ParallelNode, is_below
from anysaga._progress import Progress, StepProgress, may_undo
from anysaga._records import Outcome, SagaState, frozen


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
class Fork:
    """Let the branches of a Parallel go on at the same time: each is decided about by itself (`decide_branch`).

    `left` are those that are not done, and what comes first in each.
    """

    node: ParallelNode
    left: tuple[tuple[Node, Decision], ...]


@frozen
class ForkUndo:
    """Undo the branches of a Parallel at the same time: each is decided about by itself (`decide_undo`)."""

    node: ParallelNode


@frozen
class Finish:
    """The saga is over."""

    state: SagaState


@frozen
class Park:
    """The saga waits for a person."""

    path: str
    reason: str


Decision: TypeAlias = Act | Probe | Back | Compensate | GiveUp | Fork | ForkUndo | Finish | Park


_COMPLETED = Finish(SagaState.COMPLETED)


def decide(progress: Progress) -> Decision:
    """What comes next for a live saga. Costs the same at step 1,000 as at step 1."""
    if ROOT in progress.back:
        return _backward(progress)
    nodes = progress.definition.steps
    if progress.position == len(nodes):
        return _COMPLETED
    node = nodes[progress.position]
    return _act(progress, node) if isinstance(node, Leaf) else _forward(progress, node)


def decide_branch(progress: Progress, node: Node) -> Decision | None:
    """What comes next for one branch of a Parallel that goes forward. None: it is done, or goes back as a whole."""
    if progress.back and progress.is_back(node.path):
        return None
    if isinstance(node, Leaf):  # as `_forward` would say, at half the cost: most branches are single steps
        step = progress.steps.get(node.path)
        return None if step is not None and step.outcome is Outcome.DONE else _act(progress, node)
    return None if progress.is_done(node) else _forward(progress, node)


def decide_undo(progress: Progress, node: Node) -> Decision | None:
    """What comes next for a node that is to be undone. None: nothing of it is left to undo."""
    match node:
        case Leaf():
            step = progress.steps.get(node.path)
            if step is None or not step.waits_for_undo(node) or node.path in progress.given_up:
                return None
            return _undo(progress, node, step)
        case FallbackNode():
            return decide_undo(progress, node.fallback) or decide_undo(progress, node.primary)
        case ParallelNode():
            undos = [undo for child in reversed(node.children) if (undo := decide_undo(progress, child)) is not None]
            return _together(undos, ForkUndo(node))


def can_go_back(progress: Progress) -> bool:
    """Whether `abort`, a cancellation or the deadline may undo the saga.

    Not after a pivot is DONE, and not while one is in doubt: a pivot is never undone.
    """
    return progress.pivot is None and pivot_in_doubt(progress) is None


def pivot_in_doubt(progress: Progress) -> Leaf | None:
    """The pivot that was called and of which nobody knows what became of it."""
    nodes = progress.definition.steps
    if progress.going_back or progress.position == len(nodes):
        return None
    node = nodes[progress.position]
    if not isinstance(node, Leaf) or not node.pivot:
        return None
    return node if progress.of(node.path).in_doubt(progress.fence) else None


def uncalled(progress: Progress) -> list[Leaf]:
    """The steps whose intents this owner wrote, and of which nothing more is known: unless they run, not called."""
    fence = progress.fence
    return [
        leaf
        for path, leaf in progress.open.items()
        if fence in (progress.of(path).intent, progress.of(path).undo_intent)
    ]


def may_act_again(leaf: Leaf, step: StepProgress, fence: int) -> bool:
    """Whether the policy allows another attempt."""
    spent = step.attempts - step.forgiven
    lost = step.lost(fence)
    if spent == 0:
        return True
    if leaf.retry is not None:
        return (lost or step.wait is not None) and spent < leaf.retry.attempts
    return lost and spent == 1 and not leaf.pivot and not leaf.probes


def _forward(progress: Progress, node: Node) -> Decision:
    match node:
        case Leaf():
            return _act(progress, node)
        case FallbackNode():
            if node.primary.path not in progress.back:
                return _forward(progress, node.primary)
            return decide_undo(progress, node.primary) or _forward_unless_stuck(progress, node)
        case ParallelNode():
            return _branches(progress, node)


def _forward_unless_stuck(progress: Progress, node: FallbackNode) -> Decision:
    """The fallback acts once nothing of the primary is left: not if an undo of it was given up."""
    for path, error in progress.given_up.items():
        if is_below(path, node.primary.path):
            return Park(path, f"its compensation failed, so its fallback cannot take over: {error}")
    return _forward(progress, node.fallback)


def _branches(progress: Progress, node: ParallelNode) -> Decision:
    left: list[tuple[Node, Decision]] = []
    for child in node.children:
        decision = decide_branch(progress, child)
        if isinstance(decision, Back) and not is_below(decision.path, child.path):
            return decision
        if decision is not None:
            left.append((child, decision))
    together = _together([decision for _, decision in left], Fork(node, tuple(left)))
    assert together is not None, "a Parallel that is done is not decided about"  # noqa: S101 - narrows the type
    return together


def _together(decisions: list[Decision], fork: Decision) -> Decision | None:
    """All branches go on together, until each that is left waits for a person."""
    if all(isinstance(decision, Park) for decision in decisions):
        return decisions[0] if decisions else None
    return fork


def _act(progress: Progress, leaf: Leaf) -> Decision:
    step = progress.steps.get(leaf.path)
    if step is None or step.attempts == 0:
        return Act(leaf, 1)
    if step.intent == progress.fence:
        return Act(leaf, step.attempts, 0, True)  # noqa: FBT003 - keywords cost a third more, and most acts begin here
    if may_act_again(leaf, step, progress.fence):
        return Act(leaf, step.attempts + 1, _moment(step.ended_at, step.wait))
    if step.in_doubt(progress.fence):
        return _in_doubt(progress, leaf, step)
    return _give_up(progress, leaf, _cause(leaf, step))


def _in_doubt(progress: Progress, leaf: Leaf, step: StepProgress) -> Decision:
    if leaf.probes and not step.probed:
        return Probe(leaf)
    cause = _cause(leaf, step)
    if leaf.pivot:
        return Park(leaf.path, f"nobody can say whether this point of no return took effect ({cause})")
    return _give_up(progress, leaf, cause)


def _give_up(progress: Progress, leaf: Leaf, cause: str) -> Decision:
    step = progress.of(leaf.path)
    caught = leaf.catcher(StepLost(leaf.name)) if step.lost(progress.fence) else step.caught
    if caught is not None:
        return Back(caught, cause)
    if progress.pivot is None:
        return Back(ROOT, cause)
    return Park(leaf.path, f"it comes after the pivot {progress.pivot!r}, so it cannot be undone, and its {cause}")


def _backward(progress: Progress) -> Decision:
    nodes = progress.definition.steps
    for index in range(progress.undo_position, -1, -1):
        undo = decide_undo(progress, nodes[index])
        if undo is not None:
            return undo
    return _all_undone(progress)


def _undo(progress: Progress, leaf: Leaf, step: StepProgress) -> Decision:
    in_doubt = step.outcome is not Outcome.DONE
    if in_doubt and leaf.probes and not step.probed and not step.undo_attempts:
        return Probe(leaf)
    if leaf.pivot:
        return Park(leaf.path, "a point of no return is never undone: say what became of it")
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
    times = f" {step.undo_attempts} times" if step.undo_attempts > 1 else ""
    return Park(leaf.path, f"its compensation failed{times}: {cause}")


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
