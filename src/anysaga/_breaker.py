"""Circuit breakers: what a Fallback asks before each attempt of its primary, and tells how it ended."""

from __future__ import annotations

import inspect
import logging
import types
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from traceback import format_exception
from typing import ClassVar, Self, TypeAlias

from anyio import get_current_task

from anysaga import _circuit
from anysaga._arguments import is_number
from anysaga._breaker_attempts import Attempt, Cell, Change, SharedAttempt, change_shared
from anysaga._circuit import Circuit, CircuitState, End, Limits
from anysaga._errors import InvalidArgument
from anysaga._guard import CircuitStore
from anysaga._limits import MAX_SAGA_ID, MAX_SECONDS
from anysaga._signatures import is_plain

Excluded: TypeAlias = type[BaseException] | Callable[[BaseException], bool]
"""An exception type, or a function that says whether an exception is meant."""

_LEAST_TRIAL = 30.0
_NAMED: dict[str, Cell] = {}
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
    is a cancellation. Running out of a step's time is a failure. A function that fails is logged, and means nothing.

    Each step has a circuit of its own, unless `name` gives one that all breakers of this name share, as long as the
    process lives. With ``shared=True`` it is kept in the saga's storage (which must be a `CircuitStore`), and all
    processes agree on it within one call: an attempt reads it, and writes it only if something changed. One that
    cannot be read any more is logged, and begins anew. `clock` counts seconds; a shared circuit goes by the store's
    time.

    Safe for tasks and threads. It can be used by itself as well::

        async with CircuitBreaker(name="bank"):
            await bank.charge(...)

    Raises `InvalidArgument` for options that cannot work.
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
        _check_name_and_clock(name, clock)
        trial = max(reset_timeout, _LEAST_TRIAL)
        self.limits = Limits(fail_max, round(reset_timeout * 1_000_000), round(trial * 1_000_000))
        self.exclude = exclude
        self.shared = shared
        self.name = name
        self._clock = clock
        self._cells: dict[str, Cell] = {}
        self._listeners: list[CircuitListener] = []
        self._entered: dict[int, list[AbstractAsyncContextManager[object]]] = {}

    def __repr__(self) -> str:
        return f"CircuitBreaker(fail_max={self.limits.fail_max}, name={self.name!r}, shared={self.shared})"

    def attempt(self, step: str, circuits: CircuitStore | None = None, /) -> AbstractAsyncContextManager[object]:
        """Surround one call. Entering raises `CircuitOpen`; leaving notes how it ended."""
        name = self.name or step
        cell = self._cell(name)
        return SharedAttempt(self, cell, name, _store(circuits)) if self.shared else Attempt(self, cell, name)

    def circuit(self, step: str = own_name) -> Circuit:
        """The circuit of a step ("saga:path"), or that of `name` if the breaker has one.

        A shared one is given as this breaker saw it last.
        """
        return self._cell(self.name or step).circuit

    @property
    def state(self) -> CircuitState:
        """The state of the circuit of `name`, or of ``async with breaker``."""
        return self.circuit().state

    @property
    def fail_counter(self) -> int:
        """The failures in a row of the same circuit."""
        return self.circuit().failures

    def listen(self, listener: CircuitListener) -> None:
        """Have a listener hear of everything from now on. Raises `InvalidArgument` for one that cannot hear."""
        _check_listener(listener)
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
        if task not in self._entered:  # as of a generator that another task closes: who entered last comes closest
            task = next(reversed(self._entered))
        attempt = self._entered[task].pop()
        if not self._entered[task]:
            del self._entered[task]
        await attempt.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - shields itself

    def now(self) -> int:
        """The moment in µs, by this process's clock."""
        return round(self._clock() * 1_000_000)

    def judge(self, error: BaseException | None) -> End:
        """What it says about the service that a call ended with this error, or with none."""
        if error is None:
            return End.SUCCESS
        if not isinstance(error, Exception) or any(self._excludes(one, error) for one in self.exclude):
            return End.NEITHER
        return End.FAILURE

    def tell(self, name: str, old: Circuit, new: Circuit) -> None:
        """Have the listeners hear of a change of state."""
        if self._listeners and old.state is not new.state:
            self._each(lambda listener: listener.state_change(self, name, old.state, new.state))

    def tell_end(self, name: str, end: End, error: BaseException | None) -> None:
        """Have the listeners hear of the end of a call that counts."""
        if not self._listeners or end is End.NEITHER:
            return
        if error is None:
            self._each(lambda listener: listener.success(self, name))
        else:
            self._each(lambda listener: listener.failure(self, name, error))

    def _each(self, call: Callable[[CircuitListener], None]) -> None:
        for listener in list(self._listeners):
            try:
                call(listener)
            except Exception as failure:  # noqa: BLE001 - a listener of somebody else
                self._log(failure, "a listener")

    def _excludes(self, one: Excluded, error: Exception) -> bool:
        if isinstance(one, type):
            return isinstance(error, one)
        try:
            return one(error)
        except Exception as failure:  # noqa: BLE001 - the error of the call is more important, and must not be lost
            self._log(failure, "a function in `exclude`")
            return False

    def _log(self, failure: Exception, culprit: str) -> None:
        # Without what it came from: that is the error of the call, whose text is none of the log's business.
        _log.error("%s of %r failed\n%s", culprit, self, "".join(format_exception(failure, chain=False)))

    def _cell(self, name: str) -> Cell:
        cell = self._cells.get(name)
        if cell is None:
            # Threads may come here at once: `setdefault` gives all of them the same one.
            home = _NAMED if self.name and not self.shared else self._cells
            cell = self._cells[name] = home.setdefault(name, Cell())
        return cell

    async def _set(self, step: str, circuits: CircuitStore | None, change: Change) -> None:
        name = self.name or step
        if self.shared:
            await change_shared(self, self._cell(name), name, _store(circuits), change)
        else:
            self._cell(name).change(self, name, change)


def _store(circuits: CircuitStore | None) -> CircuitStore:
    if circuits is None:
        raise InvalidArgument(
            "circuits",
            circuits,
            "a shared circuit needs a store: use `attempt(step, storage)` or `circuits=storage`, or leave `shared` out",
        )
    return circuits


def _check(fail_max: object, reset_timeout: object, exclude: object) -> None:
    if type(fail_max) is not int or fail_max < 1:
        raise InvalidArgument("fail_max", fail_max, "it is a whole number of failures, 1 or more")
    if not is_number(reset_timeout) or not 0 < reset_timeout <= MAX_SECONDS:
        raise InvalidArgument(
            "reset_timeout", reset_timeout, f"it is a number of seconds above 0, up to {MAX_SECONDS:g}"
        )
    if not isinstance(exclude, tuple) or not all(_may_exclude(one) for one in exclude):
        raise InvalidArgument("exclude", exclude, "give a tuple of exception types, or of functions of an exception")


def _may_exclude(one: object) -> bool:
    if isinstance(one, type):
        return issubclass(one, BaseException)
    return is_plain(one)  # any other would mean every exception


def _check_listener(listener: object) -> None:
    if not isinstance(listener, CircuitListener):
        raise InvalidArgument("listener", listener, "give an instance of a subclass of CircuitListener")
    for name in ("state_change", "success", "failure"):
        if inspect.iscoroutinefunction(getattr(listener, name)):
            raise InvalidArgument("listener", listener, f"its {name} would never run: a listener's methods are plain")


def _check_name_and_clock(name: object, clock: object) -> None:
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_SAGA_ID and name.isprintable()):
        raise InvalidArgument("name", name, f"give a text of 1 to {MAX_SAGA_ID} printable characters, or leave it out")
    if not callable(clock):
        raise InvalidArgument("clock", clock, "give a function without arguments that returns seconds")
