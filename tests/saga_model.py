"""The rules of a linear saga, told a second time: as a story that runs from top to bottom.

Nothing here folds a log or asks for a decision, so that it cannot share a mistake with the engine. A `Plan` is a
saga, a list of `Turn`s is what the world does to it, and `Story` says which calls follow and how it ends. What the
world still has to say when the turns are used up is good.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from attrs import define, field, frozen

from anysaga._records import Outcome, SagaState


class Undoing(Enum):
    """How a step can be undone."""

    PLAIN = auto()
    PIVOT = auto()
    READ_ONLY = auto()


class Before(Enum):
    """What happens when a call is due, before it is made.

    LOST: its intent is durable, and the process dies. HANDED_OVER: the saga is suspended before the intent of the call
    is written, and somebody resumes it. WITHDRAWN: the same just after it. CANCELLED: its caller lets go. ABORTED: its
    caller wants it undone. EXPIRED: its time is over.
    """

    NOTHING = auto()
    LOST = auto()
    HANDED_OVER = auto()
    WITHDRAWN = auto()
    CANCELLED = auto()
    ABORTED = auto()
    EXPIRED = auto()


class Acting(Enum):
    """How a call of act ends.

    REFUSED is an error that the policy does not retry. LOST: the process dies before the outcome is written.
    """

    DONE = auto()
    CLEAN = auto()
    CLEAN_REFUSED = auto()
    UNKNOWN = auto()
    UNKNOWN_REFUSED = auto()
    UNSTORABLE = auto()
    CANCELLED = auto()
    EXPIRED = auto()
    LOST = auto()


class Undo(Enum):
    """How a call of compensate ends."""

    DONE = auto()
    FAILED = auto()
    FAILED_REFUSED = auto()
    LOST = auto()


class Person(Enum):
    """What somebody does with a parked saga."""

    RETRY = auto()
    RESOLVE_DONE = auto()
    RESOLVE_NOT_DONE = auto()
    COMPENSATE = auto()


@frozen
class PlannedStep:
    """One step: `retry` and `undo_attempts` are numbers of attempts, None is no retry."""

    undoing: Undoing = Undoing.PLAIN
    retry: int | None = None
    probes: bool = False
    undo_attempts: int = 3


@frozen
class Plan:
    """A saga."""

    steps: tuple[PlannedStep, ...]
    goes_on: bool = False
    """`on_undo_failure="continue"`"""


@frozen
class Turn:
    """What the world does at one call, whichever call it is. `writes` and `saves`: the act changes the context."""

    before: Before = Before.NOTHING
    act: Acting = Acting.DONE
    undo: Undo = Undo.DONE
    answer: Outcome | None = Outcome.UNKNOWN
    """What a probe says; None: the process dies meanwhile."""
    saves: bool = False
    """The act makes a checkpoint in its middle."""
    writes: bool = False
    """The call changes the context at its end."""


GOOD = Turn()


@frozen
class Call:
    """One call that the world sees: "act", "undo" or "probe" of the step at `place`, in which context it is made."""

    verb: str
    place: int
    attempt: int
    outcome: Outcome | None
    context: str


@define
class Known:
    """What is known of one step."""

    began: bool = False
    attempts: int = 0
    spent: int = 0
    effect: Outcome | None = None
    lost: bool = False
    may_repeat: bool = False
    asked: bool = False
    undos: int = 0
    undos_spent: int = 0
    undo_lost: bool = False
    undo_may_repeat: bool = True
    undone: bool = False

    @property
    def in_doubt(self) -> bool:
        return self.effect is Outcome.UNKNOWN


class TurnsBack(Exception):
    """The saga goes back from here."""


class Over(Exception):
    """The story ends here, parked."""


@define
class Story:
    """One saga in one world."""

    plan: Plan
    turns: list[Turn]
    people: list[Person]
    calls: list[Call] = field(factory=list)
    known: list[Known] = field(init=False)
    passed: bool = False
    """A pivot is done."""
    base: str = "start"
    current: str = "start"
    parked: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.known = [Known() for _ in self.plan.steps]

    def tell(self) -> SagaState:
        """Live through it, and say how it ends."""
        try:
            try:
                for place in range(len(self.plan.steps)):
                    self._do(place)
            except TurnsBack:
                self._go_back()
                return SagaState.COMPENSATED
        except Over:
            return SagaState.PARKED
        return SagaState.COMPLETED

    # Forward

    def _do(self, place: int) -> None:
        step, known = self.plan.steps[place], self.known[place]
        while known.effect is not Outcome.DONE:
            if self._may_act(step, known):
                self._act(place)
            elif known.in_doubt and step.probes and not known.asked:
                self._ask(place)
            elif (known.in_doubt and step.undoing is Undoing.PIVOT) or self.passed:
                self._wait_for_person(place)
            else:
                raise TurnsBack
        self.passed = self.passed or step.undoing is Undoing.PIVOT

    def _may_act(self, step: PlannedStep, known: Known) -> bool:
        if known.spent == 0:
            return True
        if step.retry is not None:
            return known.may_repeat and known.spent < step.retry
        once_more = known.lost and known.spent == 1
        return once_more and step.undoing is not Undoing.PIVOT and not step.probes

    def _act(self, place: int) -> None:
        known = self.known[place]
        turn = self._turn()
        if turn.before is Before.LOST:
            self._attempt(known)
            self._lose(known)
            return
        self._interrupt(place, turn.before)
        doubt = Outcome.UNKNOWN if known.in_doubt else None
        self._attempt(known)
        self.calls.append(Call("act", place, known.attempts, doubt, self.base))
        if turn.saves:
            self.base = self.current = f"saved by call {len(self.calls)}"
        self._end_act(place, turn)

    def _end_act(self, place: int, turn: Turn) -> None:
        known = self.known[place]
        end = turn.act
        if end is Acting.LOST:
            self._lose(known)
            return
        self.current = f"written by call {len(self.calls)}" if turn.writes else self.base
        known.lost = False
        if end is Acting.DONE:
            self.base = self.current
            known.effect = Outcome.DONE
            return
        clean = end in (Acting.CLEAN, Acting.CLEAN_REFUSED)
        if not known.in_doubt:
            known.effect = Outcome.NOT_DONE if clean else Outcome.UNKNOWN
        known.may_repeat = end in (Acting.CLEAN, Acting.UNKNOWN, Acting.CANCELLED)
        can_go_back = self._can_go_back(place)
        if end is Acting.UNSTORABLE and not can_go_back:
            self._wait_for_person(place)
        elif end in (Acting.UNSTORABLE, Acting.CANCELLED, Acting.EXPIRED) and can_go_back:
            raise TurnsBack

    def _attempt(self, known: Known) -> None:
        known.began = True
        known.attempts += 1
        known.spent += 1
        known.asked = False

    def _lose(self, known: Known) -> None:
        known.lost = known.may_repeat = True
        known.effect = Outcome.UNKNOWN
        self.current = self.base

    def _interrupt(self, place: int, what: Before) -> None:
        if what in (Before.CANCELLED, Before.ABORTED, Before.EXPIRED) and self._can_go_back(place):
            raise TurnsBack

    def _can_go_back(self, place: int) -> bool:
        pivot = self.plan.steps[place].undoing is Undoing.PIVOT
        return not self.passed and not (pivot and self.known[place].in_doubt)

    def _ask(self, place: int, *, forward: bool = True) -> None:
        known = self.known[place]
        turn = self._turn()
        if forward:
            self._interrupt(place, turn.before)
        if turn.before is Before.LOST:
            return
        self.calls.append(Call("probe", place, known.attempts, Outcome.UNKNOWN, self.base))
        if turn.answer is None:
            return
        known.asked = True
        if turn.answer is not Outcome.UNKNOWN:
            self._settle(known, turn.answer, forward=forward)

    def _settle(self, known: Known, answer: Outcome, *, forward: bool) -> None:
        known.effect = answer
        known.may_repeat = known.lost = False
        if forward and answer is Outcome.DONE:
            self.base = self.current

    def _wait_for_person(self, place: int) -> None:
        known = self.known[place]
        self.parked.append(place)
        match self._person():
            case Person.RETRY:
                known.spent = 0
            case Person.RESOLVE_DONE:
                self._settle(known, Outcome.DONE, forward=True)
            case Person.RESOLVE_NOT_DONE:
                self._settle(known, Outcome.NOT_DONE, forward=True)
            case Person.COMPENSATE:
                if self._can_go_back(place):
                    raise TurnsBack
                self._wait_for_person(place)

    # Backward

    def _go_back(self) -> None:
        waiting = [place for place, known in enumerate(self.known) if known.began]
        given_up: list[int] = []
        while waiting or given_up:
            if waiting:
                place = waiting.pop()
                if not self._undo(place):
                    given_up.append(place)
                continue
            given_up = self._let_person_choose(given_up)

    def _undo(self, place: int) -> bool:
        """Undo one step, whatever it takes. False if that has to wait until all others are undone."""
        step, known = self.plan.steps[place], self.known[place]
        if step.undoing is Undoing.READ_ONLY:
            return True
        while known.effect in (Outcome.DONE, Outcome.UNKNOWN) and not known.undone:
            if known.in_doubt and step.probes and not known.asked and not known.undos:
                self._ask(place, forward=False)
            elif self._may_undo(step, known):
                self._call_undo(place)
            elif self.plan.goes_on:
                return False
            else:
                self._undo_for_person(place)
        return True

    def _may_undo(self, step: PlannedStep, known: Known) -> bool:
        if known.undo_lost:
            return known.undos_spent <= step.undo_attempts
        return known.undo_may_repeat and known.undos_spent < step.undo_attempts

    def _call_undo(self, place: int) -> None:
        known = self.known[place]
        turn = self._turn()
        known.undos += 1
        known.undos_spent += 1
        if turn.before is Before.LOST:
            known.undo_lost = True
            return
        outcome = Outcome.DONE if known.effect is Outcome.DONE else Outcome.UNKNOWN
        self.calls.append(Call("undo", place, known.undos, outcome, self.current))
        known.undo_lost = turn.undo is Undo.LOST
        if turn.undo is Undo.DONE:
            known.undone = True
            self.current = f"written by call {len(self.calls)}" if turn.writes else self.current
        elif turn.undo is not Undo.LOST:
            known.undo_may_repeat = turn.undo is Undo.FAILED

    def _undo_for_person(self, place: int) -> None:
        self.parked.append(place)
        match self._person():
            case Person.COMPENSATE:  # refused: it goes back already
                self._undo_for_person(place)
            case Person.RETRY:
                self._forgive(place)
            case Person.RESOLVE_DONE:
                self._forgive(place)
                self.known[place].effect = Outcome.DONE
            case Person.RESOLVE_NOT_DONE:
                self.known[place].undone = True

    def _let_person_choose(self, given_up: list[int]) -> list[int]:
        """All others are undone. A retry concerns all that were given up, an answer the first of them."""
        first, *others = given_up
        self.parked.append(first)
        match self._person():
            case Person.COMPENSATE:  # refused
                return given_up
            case Person.RETRY:
                for place in given_up:
                    self._forgive(place)
                return [place for place in given_up if not self._undo(place)]
            case Person.RESOLVE_DONE:
                self._forgive(first)
                self.known[first].effect = Outcome.DONE
                return others if self._undo(first) else [*others, first]
            case Person.RESOLVE_NOT_DONE:
                self.known[first].undone = True
        return others

    def _forgive(self, place: int) -> None:
        known = self.known[place]
        known.undos_spent = 0
        known.undo_lost = False
        known.undo_may_repeat = True

    # The world

    def _turn(self) -> Turn:
        return self.turns.pop(0) if self.turns else GOOD

    def _person(self) -> Person:
        if not self.people:
            raise Over
        return self.people.pop(0)


def story(plan: Plan, turns: Iterable[Turn], people: Iterable[Person]) -> tuple[SagaState, Story]:
    """Tell the story of this saga in this world."""
    told = Story(plan, list(turns), list(people))
    return told.tell(), told
