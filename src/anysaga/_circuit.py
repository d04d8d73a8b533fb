"""The circuit breaker as a pure state machine: values and functions that read no clock and touch no store.

Moments are integers in microseconds, by whatever clock the caller keeps to. Every transition stands in this file. The
pattern is that of Michael Nygard, "Release It!", chapter "Stability Patterns".
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto

from attrs import evolve

from anysaga._records import frozen


class CircuitState(StrEnum):
    """CLOSED lets calls through. OPEN refuses them. HALF_OPEN lets a single one through, on trial."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class End(Enum):
    """What the end of a call says about the service. NEITHER: nothing, since it was excluded or cancelled."""

    SUCCESS = auto()
    FAILURE = auto()
    NEITHER = auto()


@frozen
class Limits:
    """When a circuit changes: `fail_max` consecutive failures open it, and `reset_timeout` µs later one call is tried.

    `trial_timeout` (µs) is how long nobody else is tried while nothing is heard of the call on trial.
    """

    fail_max: int
    reset_timeout: int
    trial_timeout: int


@frozen
class Circuit:
    """Where a circuit stands.

    `failures` are those since the last success. `trial` names who holds the permit of the half-open circuit, until
    `trial_until`; empty if nobody does. `turn` goes up whenever the circuit opens or closes: what a call that was let
    through before says about it counts no more.
    """

    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    opened_at: int = 0
    trial: str = ""
    trial_until: int = 0
    turn: int = 0

    @property
    def is_quiet(self) -> bool:
        """Whether a success has nothing to change."""
        return self.state is CircuitState.CLOSED and not self.failures


@frozen
class Admission:
    """A call was let through, by its `holder`, in this `turn` of the circuit."""

    holder: str
    turn: int


def ask(circuit: Circuit, holder: str, now: int, limits: Limits) -> tuple[Admission | None, Circuit]:
    """Whether a call is let through, and the circuit after that.

    A time that is left which no circuit ever has says that the clock was set back: then it is over.
    """
    if circuit.state is CircuitState.CLOSED:
        return Admission(holder, circuit.turn), circuit
    if 0 < free_at(circuit, limits) - now <= limits.reset_timeout + limits.trial_timeout:
        return None, circuit
    tried = evolve(circuit, state=CircuitState.HALF_OPEN, trial=holder, trial_until=now + limits.trial_timeout)
    return Admission(holder, circuit.turn), tried


def free_at(circuit: Circuit, limits: Limits) -> int:
    """The moment from which on a call is let through."""
    match circuit.state:
        case CircuitState.CLOSED:
            return 0
        case CircuitState.OPEN:
            return circuit.opened_at + limits.reset_timeout
        case CircuitState.HALF_OPEN:
            return circuit.trial_until if circuit.trial else 0


def ended(circuit: Circuit, admission: Admission, end: End, now: int, limits: Limits) -> Circuit:
    """The circuit after a call that ended like this."""
    match end:
        case End.SUCCESS:
            return succeeded(circuit, admission)
        case End.FAILURE:
            return failed(circuit, admission, now, limits)
        case End.NEITHER:
            return given_back(circuit, admission)


def succeeded(circuit: Circuit, admission: Admission) -> Circuit:
    """The circuit after a call that went well."""
    if not _counts(circuit, admission):
        return circuit
    if circuit.state is CircuitState.HALF_OPEN:
        return closed(circuit)
    return evolve(circuit, failures=0) if circuit.failures else circuit


def failed(circuit: Circuit, admission: Admission, now: int, limits: Limits) -> Circuit:
    """The circuit after a call that failed."""
    if not _counts(circuit, admission):
        return circuit
    failures = circuit.failures + 1
    if circuit.state is CircuitState.HALF_OPEN or failures >= limits.fail_max:
        return evolve(opened(circuit, now), failures=failures)
    return evolve(circuit, failures=failures)


def given_back(circuit: Circuit, admission: Admission) -> Circuit:
    """The circuit after a call that says nothing about the service: another one may be tried."""
    if circuit.state is CircuitState.HALF_OPEN and _counts(circuit, admission):
        return evolve(circuit, trial="", trial_until=0)
    return circuit


def opened(circuit: Circuit, now: int) -> Circuit:
    """The circuit, open from now on."""
    return Circuit(CircuitState.OPEN, circuit.failures, now, turn=circuit.turn + 1)


def closed(circuit: Circuit) -> Circuit:
    """The circuit, closed and without failures."""
    return Circuit(turn=circuit.turn + 1)


def _counts(circuit: Circuit, admission: Admission) -> bool:
    if circuit.turn != admission.turn:
        return False
    return circuit.state is CircuitState.CLOSED or circuit.trial == admission.holder
