"""The circuit as a state machine, against a model that was written by itself (rule H3)."""

from __future__ import annotations

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anysaga._circuit import (
    Admission,
    Circuit,
    CircuitState,
    End,
    Limits,
    ask,
    closed,
    ended,
    failed,
    free_at,
    given_back,
    opened,
    succeeded,
)

ENDS = {"success": End.SUCCESS, "failure": End.FAILURE, "cancelled": End.NEITHER}
LIMITS = Limits(fail_max=3, reset_timeout=100, trial_timeout=40)


def test_it_opens_at_the_last_allowed_failure_in_a_row() -> None:
    circuit = Circuit()
    for count in (1, 2):
        circuit = failed(circuit, Admission("a", 0), 5, LIMITS)
        assert (circuit.state, circuit.failures) == (CircuitState.CLOSED, count)
    assert failed(circuit, Admission("a", 0), 5, LIMITS).state is CircuitState.OPEN


def test_a_success_forgets_the_failures_before_it() -> None:
    circuit = failed(Circuit(), Admission("a", 0), 5, LIMITS)
    assert succeeded(circuit, Admission("b", 0)).failures == 0


def test_a_success_on_a_quiet_circuit_changes_nothing() -> None:
    circuit = Circuit()
    assert succeeded(circuit, Admission("a", 0)) is circuit


def test_an_open_circuit_lets_nobody_through_until_its_time_is_over() -> None:
    circuit = opened(Circuit(), 1000)
    assert ask(circuit, "a", 1099, LIMITS)[0] is None
    assert ask(circuit, "a", 1100, LIMITS)[0] is not None
    assert free_at(circuit, LIMITS) == 1100


def test_a_half_open_circuit_lets_one_through() -> None:
    _, circuit = ask(opened(Circuit(), 0), "a", 100, LIMITS)
    assert circuit.state is CircuitState.HALF_OPEN
    assert ask(circuit, "b", 101, LIMITS) == (None, circuit)


def test_the_permit_of_a_dead_holder_runs_out() -> None:
    _, circuit = ask(opened(Circuit(), 0), "a", 100, LIMITS)
    admission, circuit = ask(circuit, "b", 140, LIMITS)
    assert admission is not None
    assert circuit.trial == "b"


def test_a_clock_that_is_set_back_by_hours_holds_nobody_up_for_hours() -> None:
    circuit = opened(Circuit(), 1000)
    assert ask(circuit, "a", 999, LIMITS)[0] is None
    admission, circuit = ask(circuit, "a", 0, LIMITS)
    assert admission is not None
    assert ask(circuit, "b", -1, LIMITS)[0] is None
    assert ask(circuit, "b", -1000, LIMITS)[0] is not None


def test_who_lost_the_permit_has_no_say() -> None:
    first, circuit = ask(opened(Circuit(), 0), "a", 100, LIMITS)
    assert first is not None
    _, circuit = ask(circuit, "b", 140, LIMITS)
    assert failed(circuit, first, 150, LIMITS) is circuit
    assert succeeded(circuit, first) is circuit
    assert given_back(circuit, first) is circuit


def test_a_call_from_before_the_circuit_opened_has_no_say() -> None:
    late = Admission("late", 0)
    circuit = opened(Circuit(), 0)
    _, tried = ask(circuit, "a", 100, LIMITS)
    for each in (circuit, tried, closed(tried)):
        assert succeeded(each, late) is each
        assert failed(each, late, 200, LIMITS) is each


def test_a_permit_that_is_given_back_is_for_the_next_one() -> None:
    admission, circuit = ask(opened(Circuit(), 0), "a", 100, LIMITS)
    assert admission is not None
    circuit = given_back(circuit, admission)
    assert circuit.state is CircuitState.HALF_OPEN
    assert ask(circuit, "b", 101, LIMITS)[0] is not None


@define
class Call:
    """What the model knows of a call that is under way."""

    admission: Admission
    era: int


@define
class Model:
    """The same rules in other words: eras between openings and closings, and a deadline before which nobody passes."""

    era: int = 0
    bad_in_a_row: int = 0
    shut_until: int | None = None
    trying: Call | None = None
    trying_until: int = 0
    calls: list[Call] = field(factory=list)


class CircuitMachine(RuleBasedStateMachine):
    """Callers come, succeed, fail, are cancelled or die, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit()
        self.model = Model()
        self.now = 0
        self.names = 0

    @rule(span=st.sampled_from([1, 10, 39, 40, 99, 100]))
    def wait(self, span: int) -> None:
        self.now += span

    @rule()
    def call(self) -> None:
        self.names += 1
        admission, self.circuit = ask(self.circuit, f"caller {self.names}", self.now, LIMITS)
        model = self.model
        if model.shut_until is None:
            assert admission is not None
            model.calls.append(Call(admission, model.era))
            return
        busy = model.trying is not None and self.now < model.trying_until
        allowed = self.now >= model.shut_until and not busy
        assert (admission is not None) == allowed
        if admission is not None:
            model.trying = Call(admission, model.era)
            model.trying_until = self.now + LIMITS.trial_timeout
            model.calls.append(model.trying)

    @precondition(lambda self: self.model.calls)
    @rule(data=st.data(), end=st.sampled_from(["success", "failure", "cancelled", "death"]))
    def end(self, data: st.DataObject, end: str) -> None:
        call = self.model.calls.pop(data.draw(st.integers(0, len(self.model.calls) - 1)))
        if end == "death":
            return
        self.circuit = ended(self.circuit, call.admission, ENDS[end], self.now, LIMITS)
        self._expect(call, end)

    def _expect(self, call: Call, end: str) -> None:
        model = self.model
        if call.era != model.era or (model.shut_until is not None and call is not model.trying):
            return
        if model.shut_until is not None:
            model.trying = None
            if end == "success":
                self._shut(None)
            elif end == "failure":
                self._shut(self.now + LIMITS.reset_timeout)
        elif end == "success":
            model.bad_in_a_row = 0
        elif end == "failure":
            model.bad_in_a_row += 1
            if model.bad_in_a_row == LIMITS.fail_max:
                self._shut(self.now + LIMITS.reset_timeout)

    @rule()
    def open_by_hand(self) -> None:
        self.circuit = opened(self.circuit, self.now)
        self._shut(self.now + LIMITS.reset_timeout)

    @rule()
    def close_by_hand(self) -> None:
        self.circuit = closed(self.circuit)
        self._shut(None)

    def _shut(self, until: int | None) -> None:
        model = self.model
        model.era += 1
        model.shut_until, model.trying, model.bad_in_a_row = until, None, 0

    @invariant()
    def it_is_closed_exactly_if_the_model_is(self) -> None:
        assert (self.circuit.state is CircuitState.CLOSED) == (self.model.shut_until is None)

    @invariant()
    def a_success_has_nothing_to_change_only_if_nothing_failed(self) -> None:
        model = self.model
        assert self.circuit.is_quiet == (model.shut_until is None and model.bad_in_a_row == 0)

    @invariant()
    def it_says_when_somebody_is_let_through(self) -> None:
        free = free_at(self.circuit, LIMITS)
        assert (ask(self.circuit, "somebody", self.now, LIMITS)[0] is not None) == (self.now >= free)

    @invariant()
    def it_counts_as_the_model_does(self) -> None:
        if self.circuit.state is CircuitState.CLOSED:
            assert self.circuit.failures == self.model.bad_in_a_row < LIMITS.fail_max


CircuitMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, derandomize=True)
TestCircuitMachine = CircuitMachine.TestCase
