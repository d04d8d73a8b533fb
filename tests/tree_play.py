"""Drives sagas of Fallbacks and Parallels as the real driver does, without a loop or a store, and checks each call.

Branches are generators: each `yield` is a point where another branch may go on, the process may die, or somebody may
interfere. What happens is taken from a list of numbers; a number that is missing stands for the good. The world keeps
the truth, which the saga only hears about: whether the effect of a step is there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

import attrs
from attrs import define, field
from saga_play import Box, facts

from anysaga._composites import Branch
from anysaga._decisions import (
    Act,
    Back,
    Compensate,
    Decision,
    Finish,
    Fork,
    ForkUndo,
    GiveUp,
    Park,
    Probe,
    can_go_back,
    decide,
    decide_branch,
    decide_undo,
    uncalled,
)
from anysaga._declaration import Declaration, compile_saga
from anysaga._definition import Definition
from anysaga._folding import apply
from anysaga._nodes import ROOT, FallbackNode, Leaf, Node, ParallelNode, is_below, leaves_of
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind, Outcome, SagaState

LIMIT = 5000

Lane: TypeAlias = Generator[None, None, None]


class CaughtError(Exception):
    """An error that every Fallback here falls back on."""


class OtherError(Exception):
    """An error that only a Fallback without `failure_exceptions` falls back on."""


class OwnerGone(Exception):
    """The process died, or gave the saga back: another owner goes on with what is durable."""


def tree_of(*steps: Branch, goes_on: bool = False) -> Definition:
    """The compiled saga of these steps."""
    policy = "continue" if goes_on else "park"
    return compile_saga(Declaration("tree", 1, steps, Box, on_undo_failure=policy))


def fold_tree(definition: Definition, entries: Sequence[Entry], fence: int, start: str = "{}") -> Progress:
    """What these entries say to the owner with this fence."""
    progress = Progress(definition, base=start, current=start, fence=fence)
    for entry in entries:
        apply(progress, entry)
    return progress


def tree_facts(progress: Progress) -> dict[str, Any]:
    """All that a progress says, to compare."""
    copies = {path: attrs.asdict(each) for path, each in progress.copies.items()}
    return copy.deepcopy(
        {**facts(progress), "open": list(progress.open), "done": paths(progress.done), "copies": copies}
    )


def paths(leaves: Sequence[Leaf]) -> list[str]:
    """The paths of these steps."""
    return [leaf.path for leaf in leaves]


@define
class TreePlay:
    """A saga that is played to its end.

    `live` are the steps whose effect is there. `acting` and `undoing` are those that are called at the moment.
    """

    definition: Definition
    choices: list[int]
    durable: list[Entry] = field(factory=list)
    pending: list[Entry] = field(factory=list)
    progress: Progress = field(init=False)
    live: set[str] = field(factory=set)
    acting: set[str] = field(factory=set)
    undoing: set[str] = field(factory=set)
    ticks: int = 0

    def __attrs_post_init__(self) -> None:
        self.progress = fold_tree(self.definition, [], 1)

    @property
    def log(self) -> list[Entry]:
        """All entries, the uncommitted ones included."""
        return [*self.durable, *self.pending]

    def play(self) -> SagaState:
        """Play to the end, and say how it ends."""
        while self.progress.end is None:
            lane = self._run()
            try:
                for _ in lane:
                    self._happen()
            except OwnerGone:
                lane.close()
                self.pending.clear()
                self.acting.clear()
                self.undoing.clear()
                self.progress = fold_tree(self.definition, self.durable, self.progress.fence + 1)
        return self.progress.end

    # What happens meanwhile

    def _choose(self, count: int) -> int:
        return self.choices.pop(0) % count if self.choices else 0

    def _chance(self, one_in: int = 2) -> bool:
        return self._choose(one_in) == one_in - 1

    def _happen(self) -> None:
        self.ticks += 1
        assert self.ticks < LIMIT, "the saga does not come to an end"
        match self._choose(20):
            case 19:
                raise OwnerGone
            case 18 if not (self.acting or self.undoing):
                self._withdraw(ROOT)
                self._commit_now()
                raise OwnerGone
            case 17 if self._may_abort():
                self._go_back(ROOT, "aborted")
            case _:
                pass

    def _may_abort(self) -> bool:
        """Not while a pivot acts: its end is noted first."""
        progress = self.progress
        if progress.parked is not None or progress.going_back or not can_go_back(progress):
            return False
        return not any(self.definition.by_path[path].pivot for path in self.acting)

    # As the driver does

    def _decide(self, node: Node | None = None, *, undo: bool = False) -> Decision | None:
        """A decision, and the proof that it is the same for whoever reads the log."""

        def ask(progress: Progress) -> Decision | None:
            if node is None:
                return decide(progress)
            return decide_undo(progress, node) if undo else decide_branch(progress, node)

        before = tree_facts(self.progress)
        decision = ask(self.progress)
        assert tree_facts(self.progress) == before, "deciding changed the progress"
        again = fold_tree(self.definition, self.log, self.progress.fence)
        assert tree_facts(again) == before, "folded at once, the log says something else"
        assert ask(again) == decision, "folded at once, the log leads to another decision"
        return decision

    def _run(self) -> Lane:
        while self.progress.end is None:
            if self.progress.parked is not None:
                yield from self._commit()
                self._person(self.progress.parked[0])
                raise OwnerGone
            match self._decide():
                case Finish(SagaState.COMPLETED):
                    self._note(EntryKind.COMPLETED)
                case Finish():
                    self._note(EntryKind.COMPENSATED, error=self.progress.back[ROOT])
                case Park(path, reason):
                    self._note(EntryKind.PARKED, path, error=reason)
                case decision:
                    yield from self._carry_out(decision)
        self._commit_now()

    def _branch(self, node: Node, *, undo: bool) -> Lane:
        while True:
            decision = self._decide(node, undo=undo)
            if decision is None or isinstance(decision, Park):
                return
            yield from self._carry_out(decision)

    def _carry_out(self, decision: Decision | None) -> Lane:
        match decision:
            case Act():
                yield from self._act(decision)
            case Compensate():
                yield from self._undo(decision)
            case Probe(leaf):
                yield from self._probe(leaf)
            case Back(path, cause):
                self._go_back(path, cause)
            case GiveUp(leaf, attempts, cause):
                self._note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempts, error=cause)
            case Fork(node):
                self._intend_some(node)
                yield from self._together([self._branch(each, undo=False) for each in node.children], node.limit)
            case ForkUndo(node):
                yield from self._together([self._branch(each, undo=True) for each in node.children], node.limit)
            case _:
                raise AssertionError(decision)

    def _together(self, lanes: list[Lane], limit: int) -> Lane:
        running, waiting = lanes[:limit], lanes[limit:]
        while running:
            lane = running[self._choose(len(running))]
            try:
                next(lane)
            except StopIteration:
                running.remove(lane)
                running += [waiting.pop(0)] if waiting else []
            else:
                yield

    def _intend_some(self, node: ParallelNode) -> None:
        for child in node.children:
            decision = decide_branch(self.progress, child)
            if isinstance(decision, Act) and not decision.intent_written and self._chance():
                self._note(EntryKind.STARTED, decision.leaf.path, attempt=decision.attempt)

    def _act(self, decision: Act) -> Lane:
        leaf, attempt = decision.leaf, decision.attempt
        if not decision.intent_written:
            if leaf.pivot:
                yield from self._commit()
            if self.progress.goes_back(leaf):
                return
            self._note(EntryKind.STARTED, leaf.path, attempt=attempt)
        yield from self._commit()
        if self.progress.of(leaf.path).intent != self.progress.fence:
            return  # withdrawn by whoever went back
        if leaf.innermost_primary and self._chance(12):
            caught = leaf.innermost_primary
            self._note(EntryKind.NOT_DONE, leaf.path, attempt=attempt, error="open circuit", caught=caught)
            return
        self._check_act(leaf, attempt)
        self.acting.add(leaf.path)
        end = self._choose(9)
        seen = json.loads(self.progress.context_of(leaf).base)
        if end in (0, 1, 2, 3, 8) or self._chance():
            self.live.update([] if end in (4, 5) else [leaf.path])
        if self._chance(4):
            self._note(EntryKind.CHECKPOINT, leaf.path, context=_text({**seen, leaf.name: "half"}))
            yield from self._commit()
        yield
        self.acting.discard(leaf.path)
        self._end_act(leaf, attempt, end, _text({**seen, leaf.name: attempt}))

    def _end_act(self, leaf: Leaf, attempt: int, end: int, written: str) -> None:
        """0 to 3: it is done. 4 and 5 had no effect. 8: it has, and its time and the saga's are over."""
        cancelled = self.progress.goes_back(leaf)
        if end < 4 and not (cancelled and self._chance()):
            self._note(EntryKind.DONE, leaf.path, attempt=attempt, context=written)
            return
        clean = end in (4, 5) and not cancelled
        error = OtherError() if end in (5, 7) else CaughtError()
        expired = end == 8 and not (cancelled or leaf.pivot) and can_go_back(self.progress)
        self._note(
            EntryKind.NOT_DONE if clean else EntryKind.UNKNOWN,
            leaf.path,
            attempt=attempt,
            context=written if self._chance() else None,
            error=type(error).__name__,
            wait=None if leaf.retry is None or expired or self._chance(3) else 0.0,
            caught=None if cancelled else leaf.catcher(error),
        )
        if expired:
            self._go_back(ROOT, "expired")

    def _undo(self, decision: Compensate) -> Lane:
        leaf, attempt = decision.leaf, decision.attempt
        if not decision.intent_written:
            self._note(EntryKind.UNDO_STARTED, leaf.path, attempt=attempt)
        yield from self._commit()
        if self.progress.of(leaf.path).undo_intent != self.progress.fence:
            return
        self._check_undo(leaf, attempt)
        self.undoing.add(leaf.path)
        end = self._choose(5)
        seen = json.loads(self.progress.context_of(leaf).current)
        if end < 3 or self._chance():
            self.live.discard(leaf.path)
        yield
        self.undoing.discard(leaf.path)
        if end < 3:
            written = _text({**seen, f"undo {leaf.name}": attempt})
            self._note(EntryKind.UNDONE, leaf.path, attempt=attempt, context=written)
        else:
            wait = 0.0 if end == 3 else None
            self._note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempt, error="out of order", wait=wait)

    def _probe(self, leaf: Leaf) -> Lane:
        yield from self._commit()
        yield
        truth = Outcome.DONE if leaf.path in self.live else Outcome.NOT_DONE
        self._note(EntryKind.PROBED, leaf.path, outcome=Outcome.UNKNOWN if self._chance(3) else truth)

    def _person(self, path: str) -> None:
        back = self.progress.is_back(path)
        match self._choose(4):
            case 1 if not back:
                self.live.add(path)
                self._note(EntryKind.RESOLVED, path, outcome=Outcome.DONE)
            case 1 | 2:
                self.live.discard(path)
                self._note(EntryKind.RESOLVED, path, outcome=Outcome.NOT_DONE)
            case 3 if not self.progress.going_back and can_go_back(self.progress):
                self._note(EntryKind.BACK, ROOT, error="a person")
            case _:
                self._note(EntryKind.RETRIED, path)
        self._commit_now()

    # The log

    def _note(self, kind: EntryKind, path: str = "", **fields: Any) -> None:
        entry = Entry(kind, path, seq=len(self.log) + 1, fence=self.progress.fence, **fields)
        apply(self.progress, entry)
        self.pending.append(entry)

    def _go_back(self, path: str, cause: str) -> None:
        self._withdraw(path)
        self._note(EntryKind.BACK, path, error=cause)

    def _withdraw(self, path: str) -> None:
        if self.progress.parked is not None:
            return
        for leaf in uncalled(self.progress):
            if leaf.path not in self.acting | self.undoing and is_below(leaf.path, path):
                self._note(EntryKind.WITHDRAWN, leaf.path)

    def _commit(self) -> Lane:
        yield
        self._commit_now()

    def _commit_now(self) -> None:
        self.durable += self.pending
        self.pending.clear()

    # What must hold whenever something is called

    def _check_act(self, leaf: Leaf, attempt: int) -> None:
        assert _said(self.durable, EntryKind.STARTED, leaf.path, attempt), "it acts without a durable intent"
        assert not self.went_back(leaf.path), "it acts below a BACK"
        for node in self.definition.steps[: leaf.place]:
            assert self.achieved(node), "it acts before what precedes it is done"
        for above in leaf.above:
            if not above.parallel and not above.falls_back:
                primary = f"{above.path}/primary"
                assert primary in self.backs(self.durable), "it falls back from nothing"
                assert not self.live_below(primary), "a fallback acts while its primary has an effect"
        must, may = self._written_before(leaf)
        seen = set(json.loads(self.progress.context_of(leaf).base)) - {leaf.name}
        assert must <= seen <= must | may, "it sees another context than that of the steps before"

    def _check_undo(self, leaf: Leaf, attempt: int) -> None:
        assert _said(self.durable, EntryKind.UNDO_STARTED, leaf.path, attempt), "it undoes without a durable intent"
        assert _said(self.durable, EntryKind.STARTED, leaf.path), "it undoes what never began"
        assert not _said(self.durable, EntryKind.UNDONE, leaf.path), "it undoes twice"
        assert leaf.kind == "step", "it undoes what cannot be undone"
        tops = [back for back in self.backs(self.durable) if is_below(leaf.path, back)]
        assert tops, "it undoes without a durable BACK"
        top = min(tops, key=len)
        assert not [path for path in self.acting if is_below(path, top)], "it undoes before the acts have ended"
        if not self.progress.given_up:
            for other in self.definition.leaves:
                if _depends(other, leaf) and other.path in self.live:
                    raise AssertionError(f"{leaf.path} is undone before {other.path}")
        assert self._undo_must_see(leaf) <= set(json.loads(self.progress.context_of(leaf).current))

    def _written_before(self, leaf: Leaf) -> tuple[set[str], set[str]]:
        """The fields that an act must find, and those that it may find: what chosen steps before it wrote."""
        before = [each for each in self.definition.leaves if each.place < leaf.place and self.is_chosen(each)]
        done = {each.name for each in before if _said(self.log, EntryKind.DONE, each.path)}
        settled = {each.name for each in before if _settled_done(self.log, each.path)}
        return done, settled

    def _undo_must_see(self, leaf: Leaf) -> set[str]:
        must = self._written_before(leaf)[0]
        if _said(self.log, EntryKind.DONE, leaf.path):
            must.add(leaf.name)
        if ROOT not in self.backs(self.log):
            return must
        if self.progress.position > leaf.place:
            mates = [each for each in leaves_of(self.definition.steps[leaf.place]) if self.is_chosen(each)]
            must |= {each.name for each in mates if _said(self.log, EntryKind.DONE, each.path)}
        # A repeated undo starts from the context before its first attempt, and so does its branch.
        log, place = self.log, leaf.place
        first = next(n for n, each in enumerate(log) if _is_undo_at(each, place))
        back = next(n for n, each in enumerate(log) if each.kind is EntryKind.BACK and each.path == ROOT)
        undone = [self.definition.by_path[each.path] for each in log[back:first] if each.kind is EntryKind.UNDONE]
        return must | {f"undo {each.name}" for each in undone if each.place > place}

    # What the log and the world say

    def backs(self, entries: Sequence[Entry]) -> list[str]:
        """The paths that go back."""
        return [entry.path for entry in entries if entry.kind is EntryKind.BACK]

    def went_back(self, path: str) -> bool:
        """Whether something at or above a path goes back."""
        return any(is_below(path, back) for back in self.backs(self.log))

    def is_chosen(self, leaf: Leaf) -> bool:
        """Whether no fallback took over from the step."""
        return not any(back != ROOT and is_below(leaf.path, back) for back in self.backs(self.log))

    def live_below(self, path: str) -> list[str]:
        """The steps at or below a path whose effect is there, without those that have none by their own word."""
        return [each for each in self.live if is_below(each, path) and not self.definition.by_path[each].read_only]

    def achieved(self, node: Node) -> bool:
        """Whether the effects of a node are those of its chosen steps, and no others."""
        match node:
            case Leaf():
                return node.path in self.live
            case FallbackNode(_, primary, fallback):
                if primary.path in self.backs(self.log):
                    return self.achieved(fallback) and not self.live_below(primary.path)
                return self.achieved(primary) and not self.live_below(fallback.path)
            case ParallelNode(_, children):
                return all(self.achieved(child) for child in children)


def _depends(later: Leaf, earlier: Leaf) -> bool:
    """Whether one step can only begin after the other: it stands behind it, or is a fallback of it."""
    if later.read_only or later.place < earlier.place:
        return False
    if later.place > earlier.place:
        return True
    tops = {above.path for above in later.above if not (above.parallel or above.falls_back)}
    return any(above.path in tops and above.falls_back for above in earlier.above)


def _said(entries: Sequence[Entry], kind: EntryKind, path: str, attempt: int | None = None) -> bool:
    return any(each.kind is kind and each.path == path and attempt in (None, each.attempt) for each in entries)


def _is_undo_at(entry: Entry, place: int) -> bool:
    return entry.kind is EntryKind.UNDO_STARTED and entry.path.split("/")[0] == str(place + 1)


def _settled_done(entries: Sequence[Entry], path: str) -> bool:
    return any(each.path == path and each.outcome is Outcome.DONE for each in entries)


def _text(context: dict[str, Any]) -> str:
    return json.dumps(context, separators=(",", ":"))
