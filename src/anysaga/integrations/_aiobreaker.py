"""Circuits of the package aiobreaker, for those who use it already."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from anysaga._arguments import check_counts
from anysaga._errors import CircuitOpen, InvalidArgument, MissingPackage
from anysaga._guard import CircuitStore

try:
    import aiobreaker  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingPackage("aiobreaker", "aiobreaker") from error


class AioBreakerAdapter:
    """A `Breaker` made of aiobreaker's circuits, one for each step.

    `fail_max`, `timeout_duration` (seconds, or a `timedelta`) and `exclude` mean what they mean there; other `options`
    (`listeners`) are handed on. `storage_factory` makes the `state_storage` of each circuit, and is given the name of
    its step: circuits that share one are one. In memory without it. The rules are those of aiobreaker: an excluded
    error counts as a success, and a half-open circuit lets through whoever comes. A cancellation is neither here.

    It works on asyncio and Trio: a circuit is asked and told without ever waiting for an event loop.

        Fallback(ReserveInventory, ReserveElsewhere, circuit_breaker=AioBreakerAdapter(fail_max=2, timeout_duration=60))

    Raises `InvalidArgument` for options that cannot work; `MissingPackage`, when it is imported, without aiobreaker.
    """

    def __init__(
        self,
        fail_max: int = 5,
        timeout_duration: float | timedelta = 60,
        exclude: Iterable[type[Exception] | Callable[[Exception], bool]] = (),
        storage_factory: Callable[[str], Any] | None = None,
        **options: Any,
    ) -> None:
        check_counts(fail_max=fail_max)
        if storage_factory is not None and not callable(storage_factory):
            raise InvalidArgument(
                "storage_factory", storage_factory, "give a function that makes the storage of a step"
            )
        self._storage_factory = storage_factory
        try:
            wait = timeout_duration if isinstance(timeout_duration, timedelta) else timedelta(seconds=timeout_duration)
            self._options = {"fail_max": fail_max, "timeout_duration": wait, "exclude": list(exclude), **options}
            # Now, and not when the first step acts; without its store, which may be far away.
            aiobreaker.CircuitBreaker(**{**self._options, "state_storage": None})
        except (TypeError, ValueError, OverflowError) as problem:
            given = {"timeout_duration": timeout_duration, "exclude": exclude, **options}
            raise InvalidArgument("options", given, f"aiobreaker cannot work with them: {problem}") from problem
        self._circuits: dict[str, Any] = {}

    def circuit(self, step: str) -> Any:
        """The `aiobreaker.CircuitBreaker` of a step ("saga:path")."""
        circuit = self._circuits.get(step)
        if circuit is None:
            # Threads may come here at once: `setdefault` gives all of them the same one.
            circuit = self._circuits.setdefault(step, aiobreaker.CircuitBreaker(**self._options_of(step)))
        return circuit

    def _options_of(self, step: str) -> dict[str, Any]:
        options = {**self._options, "name": step}
        return options if self._storage_factory is None else {**options, "state_storage": self._storage_factory(step)}

    def attempt(
        self,
        step: str,
        circuits: CircuitStore | None = None,  # noqa: ARG002 - aiobreaker has stores of its own
        /,
    ) -> AbstractAsyncContextManager[object]:
        """Surround one call. Entering raises `CircuitOpen`; leaving notes how it ended."""
        return _Attempt(step, self.circuit(step))


class _Attempt(AbstractAsyncContextManager[object]):
    """One call: aiobreaker surrounds a coroutine that is stopped in its middle while the step acts."""

    def __init__(self, step: str, circuit: Any) -> None:
        self._step = step
        self._circuit = circuit

    async def __aenter__(self) -> None:
        self._call = self._circuit.call_async(_body)
        try:
            self._call.send(None)
        except aiobreaker.CircuitBreakerError as error:
            raise CircuitOpen(self._step, _seconds_left(self._circuit)) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._call.close()
            return
        try:
            self._call.send(error)
        except StopIteration:
            return
        except Exception as raised:
            # The step's own error goes on by itself; aiobreaker raises its own in its place when the circuit opens.
            if raised is not error and not isinstance(raised, aiobreaker.CircuitBreakerError):
                raise


def _seconds_left(circuit: Any) -> float:
    # Its own `time_until_open` takes local time for UTC: it is hours off, or fails, wherever the two differ.
    opened_at: datetime | None = circuit._state_storage.opened_at
    if opened_at is None:
        return 0.0
    now = datetime.now(tz=opened_at.tzinfo or UTC).replace(tzinfo=opened_at.tzinfo)
    left: timedelta = opened_at + circuit.timeout_duration - now
    return max(left.total_seconds(), 0.0)


async def _body() -> None:
    error = await _end_of_the_step()
    if error is not None:
        raise error


@types.coroutine
def _end_of_the_step() -> Generator[None, Exception | None, Exception | None]:
    return (yield)
