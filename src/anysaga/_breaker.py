"""Circuit breakers: what a Fallback asks before each attempt of its primary, and tells how it ended."""

from __future__ import annotations

import logging
import threading
import types
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import ClassVar, Self, TypeAlias
from weakref import WeakValueDictionary

from anyio import CancelScope, get_current_task
from attrs import define, field

from anysaga import _circuit
from anysaga._circuit import Admission, Circuit, CircuitState, Limits
from anysaga._errors import CircuitOpen, InvalidArgument
from anysaga._guard import CircuitRecord, CircuitStore
from anysaga._snapshot import codec_for

Excluded: TypeAlias = type[BaseException] | Callable[[BaseException], bool]
"""An exception type, or a function that says whether an exception is meant."""

_LEAST_TRIAL = 30.0
_LONGEST_RESET = 10**9
_CODEC = codec_for(Circuit, where="a circuit")
_log = logging.getLogger("anysaga.breaker")


class CircuitListener:
    """Hears of what a breaker does. Override what you need; what you raise is logged, and changes nothing."""

    def state_change(self, breaker: CircuitBreaker, circuit: str, old: CircuitState, new: CircuitState) -> None:
        """A circuit has another state."""

    def success(self, breaker: CircuitBreaker, circuit: str) -> None:
        """A call went well."""

    def failure(self, breaker: CircuitBreaker, circuit: str, error: BaseException) -> None:
        """A call failed, and counts."""


class CircuitBreaker:
    """Keeps callers away from a service that fails.

    `fail_max` consecutive failures open a circuit: calls are refused with `CircuitOpen`, for `reset_timeout` seconds.
    Then a single call is tried; it closes the circuit or opens it again. The permit to try is a lease of
    `reset_timeout`, or 30 seconds if that is more, so that a caller that died does not block it for ever.

    `exclude` holds exception types, or functions of an exception: what they mean is neither failure nor success. Nor
    is a cancellation. Running out of a step's time is a failure.

    Each step has a circuit of its own, unless `name` gives one that all breakers of this name share. With
    ``shared=True`` it is kept in the saga's storage (which must be a `CircuitStore`), and all processes agree on it
    within one call: an attempt reads it, and writes it only if something changed. `clock` counts seconds; a shared
    circuit goes by the store's time.

    Safe for tasks and threads. It can be used by itself as well::

        async with CircuitBreaker(name="bank"):
            await bank.charge(...)

    Raises `InvalidArgument` for limits that cannot work.
    """

    own_name: ClassVar[str] = "breaker"

    def __init__(
        self,
        fail_max: int = 5,
        reset_timeout: float = 60.0,
        exclude: tuple[Excluded, ...] = (),
        *,
        shared: bool = False,
        name: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        _check(fail_max, reset_timeout, exclude)
        trial = max(reset_timeout, _LEAST_TRIAL)
        self.limits = Limits(fail_max, round(reset_timeout * 1_000_000), round(trial * 1_000_000))
        self.exclude = exclude
        self.shared = shared
        self.name = name
        self._clock = clock
        self._cells: dict[str, _Cell] = {}
        self._listeners: list[CircuitListener] = []
        self._entered: dict[int, list[AbstractAsyncContextManager[object]]] = {}

    def __repr__(self) -> str:
        return f"CircuitBreaker(fail_max={self.limits.fail_max}, name={self.name!r}, shared={self.shared})"

    def attempt(self, step: str, circuits: CircuitStore | None = None, /) -> AbstractAsyncContextManager[object]:
        """Surround one call. Entering raises `CircuitOpen`; leaving notes how it ended."""
        name = self.name or step
        if not self.shared:
            return _Attempt(self, self._cell(name), name)
        return _SharedAttempt(self, name, _store(circuits))

    def circuit(self, step: str = own_name) -> Circuit:
        """The circuit of a step ("saga:path") as it stands in this process; that of `name`, if the breaker has one."""
        return self._cell(self.name or step).circuit

    @property
    def state(self) -> CircuitState:
        """The state of the circuit of `name`, or of ``async with breaker``."""
        return self.circuit().state

    def listen(self, listener: CircuitListener) -> None:
        """Have a listener hear of everything from now on."""
        self._listeners.append(listener)

    async def open(self, step: str = own_name, *, circuits: CircuitStore | None = None) -> None:
        """Open a circuit by hand. It lets a call try when `reset_timeout` is over, as always."""
        await self._set(step, circuits, _circuit.opened)

    async def close(self, step: str = own_name, *, circuits: CircuitStore | None = None) -> None:
        """Close a circuit by hand, and forget its failures."""
        await self._set(step, circuits, lambda circuit, _: _circuit.closed(circuit))

    async def __aenter__(self) -> Self:
        attempt = self.attempt(self.own_name)
        await attempt.__aenter__()
        self._entered.setdefault(get_current_task().id, []).append(attempt)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        task = get_current_task().id
        attempt = self._entered[task].pop()
        if not self._entered[task]:
            del self._entered[task]
        await attempt.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - shields itself

    def now(self) -> int:
        """The moment in µs, by this process's clock."""
        return round(self._clock() * 1_000_000)

    def end_of(self, admission: Admission, error: BaseException | None) -> Callable[[Circuit, int], Circuit]:
        """What the end of a call makes of its circuit."""
        if error is None:
            return lambda circuit, _: _circuit.succeeded(circuit, admission)
        if not isinstance(error, Exception) or self._excludes(error):
            return lambda circuit, _: _circuit.given_back(circuit, admission)
        return lambda circuit, now: _circuit.failed(circuit, admission, now, self.limits)

    def tell(self, name: str, old: Circuit, new: Circuit) -> None:
        """Have the listeners hear of a change of state."""
        if self._listeners and old.state is not new.state:
            self._each(lambda listener: listener.state_change(self, name, old.state, new.state))

    def tell_end(self, name: str, error: BaseException | None) -> None:
        """Have the listeners hear of the end of a call that counts."""
        if not self._listeners:
            return
        if error is None:
            self._each(lambda listener: listener.success(self, name))
        elif isinstance(error, Exception) and not self._excludes(error):
            self._each(lambda listener: listener.failure(self, name, error))

    def _each(self, call: Callable[[CircuitListener], None]) -> None:
        for listener in list(self._listeners):
            try:
                call(listener)
            except Exception:  # noqa: BLE001 - a listener of somebody else
                _log.exception("a listener of %r failed", self)

    def _excludes(self, error: BaseException) -> bool:
        return any(isinstance(error, one) if isinstance(one, type) else one(error) for one in self.exclude)

    def _cell(self, name: str) -> _Cell:
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cells[name] = _NAMED.setdefault(name, _Cell()) if self.name else _Cell()
        return cell

    async def _set(self, step: str, circuits: CircuitStore | None, change: Callable[[Circuit, int], Circuit]) -> None:
        name = self.name or step
        if self.shared:
            await _change_shared(self, name, _store(circuits), change)
        else:
            self._cell(name).change(self, name, change)


@define(eq=False)
class _Cell:
    """A circuit of this process."""

    circuit: Circuit = field(factory=Circuit)
    lock: threading.Lock = field(factory=threading.Lock)

    def change(self, breaker: CircuitBreaker, name: str, change: Callable[[Circuit, int], Circuit]) -> None:
        with self.lock:
            before = self.circuit
            after = self.circuit = change(before, breaker.now())
        breaker.tell(name, before, after)


_NAMED: WeakValueDictionary[str, _Cell] = WeakValueDictionary()


class _Attempt(AbstractAsyncContextManager[object]):
    """One call, through a circuit of this process."""

    __slots__ = ("_admission", "_breaker", "_cell", "_name")

    def __init__(self, breaker: CircuitBreaker, cell: _Cell, name: str) -> None:
        self._breaker = breaker
        self._cell = cell
        self._name = name

    async def __aenter__(self) -> None:
        cell, breaker = self._cell, self._breaker
        with cell.lock:
            before = cell.circuit
            now = 0 if before.state is CircuitState.CLOSED else breaker.now()
            admission, cell.circuit = _circuit.ask(before, _holder(before), now, breaker.limits)
        breaker.tell(self._name, before, cell.circuit)
        if admission is None:
            raise _refusal(self._name, before, now, breaker.limits)
        self._admission = admission

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        cell, breaker = self._cell, self._breaker
        if error is not None or cell.circuit.failures or cell.circuit.state is not CircuitState.CLOSED:
            cell.change(breaker, self._name, breaker.end_of(self._admission, error))
        breaker.tell_end(self._name, error)


class _SharedAttempt(AbstractAsyncContextManager[object]):
    """One call, through a circuit in a store."""

    def __init__(self, breaker: CircuitBreaker, name: str, circuits: CircuitStore) -> None:
        self._breaker = breaker
        self._name = name
        self._circuits = circuits
        self._quiet = False

    async def __aenter__(self) -> None:
        breaker, holder = self._breaker, uuid.uuid4().hex
        while True:
            record, before = await _load(self._circuits, self._name)
            admission, after = _circuit.ask(before, holder, record.now, breaker.limits)
            if admission is None:
                raise _refusal(self._name, before, record.now, breaker.limits)
            if after == before or await self._circuits.save_circuit(self._name, _encode(after), before=record.version):
                break
        breaker.tell(self._name, before, after)
        self._admission = admission
        self._quiet = after == Circuit(turn=after.turn)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        breaker = self._breaker
        if error is not None or not self._quiet:
            with CancelScope(shield=True):
                end = breaker.end_of(self._admission, error)
                await _change_shared(breaker, self._name, self._circuits, end)
        breaker.tell_end(self._name, error)


async def _change_shared(
    breaker: CircuitBreaker, name: str, circuits: CircuitStore, change: Callable[[Circuit, int], Circuit]
) -> None:
    while True:
        record, before = await _load(circuits, name)
        after = change(before, record.now)
        if after == before or await circuits.save_circuit(name, _encode(after), before=record.version):
            break
    breaker.tell(name, before, after)


async def _load(circuits: CircuitStore, name: str) -> tuple[CircuitRecord, Circuit]:
    record = await circuits.load_circuit(name)
    circuit = Circuit() if not record.version else _CODEC.decode(record.text, where=f"the circuit {name!r}")
    return record, circuit


def _encode(circuit: Circuit) -> str:
    return _CODEC.encode(circuit, where="a circuit")


def _holder(circuit: Circuit) -> str:
    return "" if circuit.state is CircuitState.CLOSED else uuid.uuid4().hex


def _refusal(name: str, circuit: Circuit, now: int, limits: Limits) -> CircuitOpen:
    return CircuitOpen(name, max(_circuit.free_at(circuit, limits) - now, 0) / 1_000_000)


def _store(circuits: CircuitStore | None) -> CircuitStore:
    if circuits is None:
        raise InvalidArgument(
            "circuits",
            circuits,
            "a shared circuit needs a store: give a SQLAlchemyStorage, or leave `shared` out",
        )
    return circuits


def _check(fail_max: object, reset_timeout: object, exclude: object) -> None:
    if type(fail_max) is not int or fail_max < 1:
        raise InvalidArgument("fail_max", fail_max, "it is a whole number of failures, 1 or more")
    if (
        isinstance(reset_timeout, bool)
        or not isinstance(reset_timeout, int | float)
        or not 0 < reset_timeout < _LONGEST_RESET
    ):
        raise InvalidArgument("reset_timeout", reset_timeout, "it is a number of seconds above 0")
    if not isinstance(exclude, tuple) or not all(callable(one) for one in exclude):
        raise InvalidArgument("exclude", exclude, "give a tuple of exception types, or of functions of an exception")
