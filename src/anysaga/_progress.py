"""What the log of a saga says so far. `_folding` holds what each entry means, `_decisions` what follows from it."""

from __future__ import annotations

from attrs import define, field

from anysaga._definition import Definition
from anysaga._errors import NotStorable
from anysaga._merging import clashes, merge
from anysaga._nodes import ROOT, Leaf, Node, is_below
from anysaga._records import Outcome, SagaState
from anysaga._snapshot import TOO_BIG, is_too_big


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
    path, `parts_done` how many of its parts are done. `given_up` says why an undo was, by the path of the step.
    `rewritten` tells that the log has contexts in the words of earlier code, so that none of these is durable as it is.
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
    rewritten: bool = False

    def of(self, path: str) -> StepProgress:
        """What the log says about the step at `path`; nothing yet is a valid answer."""
        found = self.steps.get(path)
        if found is None:
            found = self.steps[path] = StepProgress()
        return found

    def context_of(self, leaf: Leaf) -> Progress | Copy:
        """Where the context is kept that a step works on."""
        return self.copies[leaf.scope] if leaf.scope else self  # without a call of `context_at`: every step asks it

    def context_at(self, scope: str) -> Progress | Copy:
        """Where the context of a scope is kept: a branch of a Parallel once it has begun, else the whole saga."""
        return self.copies.get(scope, self)

    def goes_back(self, leaf: Leaf) -> bool:
        """Whether a step is below a BACK, so that it does not act any more.

        What every step asks looks at `back` first, which is a tenth of the cost of a call, and nearly always empty.
        """
        return bool(self.back) and not self.back.keys().isdisjoint(leaf.backs)

    def is_back(self, path: str) -> bool:
        """Whether everything at a path goes back."""
        return bool(self.back) and any(is_below(path, back) for back in self.back)

    @property
    def chosen(self) -> list[Leaf]:
        """The steps that did the work: those that are done, without primaries that a fallback took over from."""
        if not self.back:
            return self.done
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


def may_undo(leaf: Leaf, step: StepProgress, fence: int) -> bool:
    """Whether the policy allows another attempt to undo.

    An attempt that was lost with its process says nothing about the undo, so one more is always allowed after it.
    """
    lost = 0 < step.undo_intent < fence
    spent = step.undo_attempts - step.undo_forgiven
    if lost:
        return spent <= leaf.compensate_retry.attempts
    return step.undo_wait is not None and spent < leaf.compensate_retry.attempts


def clashes_at(progress: Progress, leaf: Leaf, text: str) -> list[str]:
    """The fields of the context that two branches of a Parallel would have changed, were this step done with `text`.

    Raises `NotStorable` if what they make together is too big.
    """
    for above in reversed(leaf.above):
        if above.parallel:
            copy, outer = progress.copies[above.branch], progress.context_at(above.scope)
            if text != copy.origin:  # a branch that changed nothing clashes with none
                fields = clashes(copy.origin, outer.base, text)
                if fields:
                    return fields
            text = merge(copy.origin, outer.base, text)
            if is_too_big(text):
                raise NotStorable("the context that the branches of a Parallel make together", TOO_BIG)
        if progress.parts_done.get(above.path, 0) + 1 < above.size:
            return []
    return []
