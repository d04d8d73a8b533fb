"""Drives `decide` and `apply` as the real driver does, against a world of `Turn`s, without a loop or a store.

It writes the entries that the driver writes, in the same commits, and forgets what was not committed when a process
is lost. While it goes on, it checks what must hold at each moment.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, cast

import attrs
from attrs import define, evolve, field, frozen
from saga_model import GOOD, Acting, Before, Call, Person, Plan, PlannedStep, Turn, Undo, Undoing

from anysaga._decisions import (
    Act,
    Back,
    Compensate,
    Decision,
    Finish,
    GiveUp,
    Park,
    Probe,
    can_go_back,
    decide,
    uncalled,
)
from anysaga._declaration import Declaration, compile_saga
from anysaga._definition import Definition
from anysaga._folding import apply
from anysaga._nodes import ROOT, Leaf
from anysaga._operations import _Desk
from anysaga._progress import Progress, StepProgress
from anysaga._records import Claim, Entry, EntryKind, Outcome, SagaRecord, SagaState, SagaSummary
from anysaga._retry import Retry
from anysaga._step import Step
from anysaga.storages import MemoryStorage

START = "start"
LIMIT = 500


@frozen
class Box:
    """A context that no test looks into."""

    text: str = ""


class Plain(Step[Box]):
    """The methods that all played steps share; nobody calls them."""

    def act(self, box: Box) -> None:
        raise AssertionError

    def compensate(self, box: Box) -> None:
        raise AssertionError


class Probed(Plain):
    """A step that can be asked."""

    def probe(self, box: Box) -> Outcome:
        raise AssertionError


def step_of(planned: PlannedStep, name: str) -> type[Step[Box]]:
    """A step class as it is planned."""
    members: dict[str, Any] = {
        "name": name,
        "pivot": planned.undoing is Undoing.PIVOT,
        "read_only": planned.undoing is Undoing.READ_ONLY,
        "retry": None if planned.retry is None else Retry(attempts=planned.retry),
        "compensate_retry": Retry(attempts=planned.undo_attempts),
    }
    return cast("type[Step[Box]]", type(name, (Probed if planned.probes else Plain,), members))


@lru_cache(maxsize=500)
def definition_of(plan: Plan) -> Definition:
    """The compiled saga of a plan. Its steps are named a, b, c and so on, or by number where there are many."""
    steps = [step_of(step, name_of(place)) for place, step in enumerate(plan.steps)]
    policy = "continue" if plan.goes_on else "park"
    return compile_saga(Declaration("played", 1, steps, Box, on_undo_failure=policy))


def name_of(place: int) -> str:
    """The name of the step at this place, from 0."""
    return chr(ord("a") + place) if place < 26 else f"step-{place}"


def fold(definition: Definition, entries: list[Entry], fence: int) -> Progress:
    """What these entries say to the owner with this fence."""
    progress = Progress(definition, base=START, current=START, fence=fence)
    for entry in entries:
        apply(progress, entry)
    return progress


def desk_of(progress: Progress, entries: list[Entry]) -> _Desk:
    """What a person sees of this log, without the saga's definition."""
    outline = progress.definition.outline
    summary = SagaSummary("1", "played", 1, progress.state, progress.fence, len(entries), None, 0, 0, 0, 0)
    record = SagaRecord(summary, outline, "", START, tuple(entries))
    return _Desk(MemoryStorage(), Claim(record, progress.fence, 0), "compensate")


def facts(progress: Progress) -> dict[str, Any]:
    """All that a progress says, to compare: a step of which nothing is known is no fact."""
    names = [*attrs.fields_dict(Progress), "copies", "snapshots", "parts_done", "undone", "given_up"]
    found = {name: copy.copy(getattr(progress, name)) for name in names if name != "definition"}
    nothing = attrs.asdict(StepProgress())
    steps = {path: attrs.asdict(step) for path, step in progress.steps.items()}
    found["steps"] = {path: step for path, step in steps.items() if step != nothing}
    return found


@define
class Play:
    """A saga that is played to its end."""

    plan: Plan
    turns: list[Turn]
    people: list[Person]
    calls: list[Call] = field(factory=list)
    durable: list[Entry] = field(factory=list)
    pending: list[Entry] = field(factory=list)
    progress: Progress = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.progress = Progress(definition_of(self.plan), base=START, current=START, fence=1)

    @property
    def log(self) -> list[Entry]:
        """All entries, the uncommitted ones included."""
        return [*self.durable, *self.pending]

    def play(self) -> SagaState:
        """Play to the end, and say how it ends."""
        self._plan_first()
        for _ in range(LIMIT):
            if self.progress.end is not None:
                return self.progress.end
            if self.progress.parked is not None:
                self._commit()
                if not self.people:
                    return SagaState.PARKED
                self._person(self.people.pop(0))
                continue
            self._carry_out(self._decide())
        raise AssertionError("the saga does not come to an end")

    # What must hold whenever something is decided

    def _decide(self) -> Decision:
        before = facts(self.progress)
        decision = decide(self.progress)
        assert decide(self.progress) == decision, "the same progress, another decision"
        assert facts(self.progress) == before, "deciding changed the progress"
        again = fold(self.progress.definition, self.log, self.progress.fence)
        assert facts(again) == before, "folded at once, the log says something else"
        assert decide(again) == decision, "folded at once, the log leads to another decision"
        assert again.state == self.progress.state
        return decision

    # As the driver does

    def _plan_first(self) -> None:
        decision = self._decide()
        assert isinstance(decision, Act)
        if not decision.leaf.pivot:
            self._note(EntryKind.STARTED, decision.leaf.path, attempt=1)
        self._commit()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Act() | Compensate() | Probe():
                self._call(decision)
            case Back(path, cause):
                self._note(EntryKind.BACK, path, error=cause)
            case GiveUp(leaf, attempts, cause):
                self._note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempts, error=cause)
            case Park(path, reason):
                self._note(EntryKind.PARKED, path, error=reason)
            case Finish(SagaState.COMPLETED):
                self._note(EntryKind.COMPLETED)
                self._commit()
            case Finish():
                self._note(EntryKind.COMPENSATED, error=self.progress.back[ROOT])
                self._commit()

    def _call(self, decision: Act | Compensate | Probe) -> None:
        turn = self.turns.pop(0) if self.turns else GOOD
        if turn.before is Before.LOST:
            self._intend(decision)
            self._lose()
            return
        if turn.before in (Before.WITHDRAWN, Before.CANCELLED):
            self._intend(decision)
        if self._interrupted(turn.before):
            return
        if turn.before in (Before.HANDED_OVER, Before.WITHDRAWN, Before.CANCELLED):
            self._hand_over()
            decision = self._same_call(decision)
        self._intend(decision)
        match decision:
            case Act():
                self._act(decision, turn)
            case Compensate():
                self._undo(decision, turn)
            case Probe():
                self._probe(decision, turn)

    def _same_call(self, before: Act | Compensate | Probe) -> Act | Compensate | Probe:
        """After a hand-over nothing is in doubt that was not: the same call of the same attempt is due."""
        now = self._decide()
        if isinstance(before, Probe):
            assert now == before
        else:
            assert isinstance(now, type(before))
            assert not now.intent_written
            assert evolve(now, not_before=0) == evolve(before, not_before=0, intent_written=False)
        assert isinstance(now, Act | Compensate | Probe)
        return now

    def _interrupted(self, what: Before) -> bool:
        if what not in (Before.CANCELLED, Before.ABORTED, Before.EXPIRED):
            return False
        if self.progress.going_back or not can_go_back(self.progress):
            return False
        self._withdraw()
        self._note(EntryKind.BACK, ROOT, error=what.name)
        return True

    def _intend(self, decision: Act | Compensate | Probe) -> None:
        match decision:
            case Act(leaf, attempt, intent_written=False):
                if leaf.pivot:
                    self._commit()
                self._note(EntryKind.STARTED, leaf.path, attempt=attempt)
            case Compensate(leaf, attempt, intent_written=False):
                self._note(EntryKind.UNDO_STARTED, leaf.path, attempt=attempt)
            case _:
                pass
        self._commit()

    def _act(self, decision: Act, turn: Turn) -> None:
        leaf, attempt = decision.leaf, decision.attempt
        doubt = Outcome.UNKNOWN if self.progress.of(leaf.path).doubt else None
        self._saw("act", leaf, attempt, doubt, self.progress.base)
        if turn.saves:
            self._note(EntryKind.CHECKPOINT, leaf.path, context=f"saved by call {len(self.calls)}")
            self._commit()
        written = f"written by call {len(self.calls)}" if turn.writes else None
        match turn.act:
            case Acting.LOST:
                self._lose()
            case Acting.DONE:
                self._note(EntryKind.DONE, leaf.path, attempt=attempt, context=written)
            case end:
                self._fail(leaf, attempt, end, written)

    def _fail(self, leaf: Leaf, attempt: int, end: Acting, written: str | None) -> None:
        progress = self.progress
        clean = end in (Acting.CLEAN, Acting.CLEAN_REFUSED)
        retried = leaf.retry is not None and end in (Acting.CLEAN, Acting.UNKNOWN, Acting.CANCELLED)
        self._note(
            EntryKind.NOT_DONE if clean else EntryKind.UNKNOWN,
            leaf.path,
            attempt=attempt,
            context=written,
            error=end.name,
            wait=1.0 if retried else None,
        )
        if end is Acting.UNSTORABLE and (leaf.pivot or progress.pivot is not None):
            self._note(EntryKind.PARKED, leaf.path, error=end.name)
        elif end in (Acting.UNSTORABLE, Acting.EXPIRED, Acting.CANCELLED):
            if can_go_back(progress):
                self._withdraw()
                self._note(EntryKind.BACK, ROOT, error=end.name)
            elif end is Acting.CANCELLED:
                self._hand_over()

    def _undo(self, decision: Compensate, turn: Turn) -> None:
        leaf, attempt = decision.leaf, decision.attempt
        self._saw("undo", leaf, attempt, decision.outcome, self.progress.current)
        match turn.undo:
            case Undo.LOST:
                self._lose()
            case Undo.DONE:
                written = f"written by call {len(self.calls)}" if turn.writes else None
                self._note(EntryKind.UNDONE, leaf.path, attempt=attempt, context=written)
            case end:
                wait = 1.0 if end is Undo.FAILED else None
                self._note(EntryKind.UNDO_FAILED, leaf.path, attempt=attempt, error=end.name, wait=wait)

    def _probe(self, decision: Probe, turn: Turn) -> None:
        leaf = decision.leaf
        self._saw("probe", leaf, self.progress.of(leaf.path).attempts, Outcome.UNKNOWN, self.progress.base)
        if turn.answer is None:
            self._lose()
        else:
            self._note(EntryKind.PROBED, leaf.path, outcome=turn.answer)

    # A person

    def _person(self, what: Person) -> None:
        parked = self.progress.parked
        assert parked is not None
        path = parked[0]
        self._next_owner()
        match what:
            case Person.RETRY:
                self._note(EntryKind.RETRIED, path)
            case Person.RESOLVE_DONE:
                self._note(EntryKind.RESOLVED, path, outcome=Outcome.DONE)
            case Person.RESOLVE_NOT_DONE:
                self._note(EntryKind.RESOLVED, path, outcome=Outcome.NOT_DONE)
            case Person.COMPENSATE if self._may_compensate():
                self._note(EntryKind.BACK, ROOT, error="a person")
            case Person.COMPENSATE:
                return
        self._commit()
        self._next_owner()

    def _may_compensate(self) -> bool:
        """Whether a person may send it back. The person's desk has only the log, and must find the same."""
        if self.progress.going_back:
            return False
        assert (desk_of(self.progress, self.durable).begun_pivot is None) == can_go_back(self.progress)
        return can_go_back(self.progress)

    # The log

    def _saw(self, verb: str, leaf: Leaf, attempt: int, outcome: Outcome | None, context: str) -> None:
        assert not self.pending, "something is called whose intent is not durable"
        self.calls.append(Call(verb, int(leaf.path) - 1, attempt, outcome, context))

    def _note(self, kind: EntryKind, path: str = "", **fields: Any) -> None:
        entry = Entry(kind, path, seq=len(self.log) + 1, fence=self.progress.fence, at=len(self.log), **fields)
        apply(self.progress, entry)
        self.pending.append(entry)

    def _withdraw(self) -> None:
        for leaf in uncalled(self.progress):
            self._note(EntryKind.WITHDRAWN, leaf.path)

    def _hand_over(self) -> None:
        self._withdraw()
        self._commit()
        self._next_owner()

    def _lose(self) -> None:
        self.pending.clear()
        self._next_owner()

    def _next_owner(self) -> None:
        self.progress = fold(self.progress.definition, self.durable, self.progress.fence + 1)

    def _commit(self) -> None:
        self.durable += self.pending
        self.pending.clear()
