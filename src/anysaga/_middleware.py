"""What stands around sagas and their steps: what a user writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import FunctionType, MethodType
from typing import Any, Literal, TypeAlias

from attrs import define, field

from anysaga._arguments import check_texts
from anysaga._errors import InvalidArgument
from anysaga._results import SagaResult
from anysaga._signatures import has_yield, takes


@define(eq=False)
class SagaCall:
    """A run of a saga. `recovers` says that it was begun elsewhere, and is finished here by recovery or a worker.

    `context` is what the caller gave; None where the stored one is used. `notes` are those that the log has, where the
    run recovers.
    """

    saga_id: str
    saga: str
    recovers: bool
    context: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def note(self, text: str) -> None:
        """Keep a short text in the log, for whoever recovers the saga. To be called before `call_next`.

        It goes along with the first write of a new saga; nothing is kept of one that is stored already.
        """
        check_texts(text=text)
        self.notes = (*self.notes, text)


@define(eq=False)
class StepCall:
    """A call of a step's `act`, or of its `compensate` ("undo"). `attempt` counts from 1."""

    saga_id: str
    saga: str
    step: str
    path: str
    attempt: int
    verb: Literal["act", "undo"]
    context: Any = field(repr=False)


NextSaga: TypeAlias = Callable[[], Awaitable[SagaResult[Any]]]
NextStep: TypeAlias = Callable[[], Awaitable[Any]]


class Middleware:
    """Stands around each saga, and around each `act` and `compensate`. Override one or both; the other costs nothing.

    Of several, the first is the outermost. They stand there wherever the saga runs: in its caller, in a mediator, in a
    worker, in recovery. One object serves many sagas at once. `current_step` works in `step`.

    `call_next` may be called once, or not at all.

        class Timing(Middleware):
            async def step(self, call: StepCall, call_next: NextStep) -> Any:
                began = time.perf_counter()
                try:
                    return await call_next()
                finally:
                    histogram.record(time.perf_counter() - began, step=call.step, verb=call.verb)
    """

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:  # noqa: ARG002 - for those who override
        """Stand around a run of a saga, its undoing included.

        `call_next` returns the saga as it stands in the end, or raises what its caller will see. A run that is not
        watched to its end returns too: look at the result's `state`. In recovery, a saga that was undone or parked is a
        result, no error.

        What this raises before `call_next` keeps the saga from running: nothing of it is stored, or somebody else may
        take it up. What it raises after that goes to the caller in the place of the result, or of the saga's error;
        the saga is what it is. A result or an error is not replaced by what this returns.

        While the caller of `Saga.transaction` looks at a step, this waits inside `call_next`. So what it opens around
        that, such as a context variable, is open in the caller's block too.
        """
        return await call_next()

    async def step(self, call: StepCall, call_next: NextStep) -> Any:  # noqa: ARG002 - as above
        """Stand around one call of a step, inside its time limit. A plain function still runs in its worker thread.

        What this returns is the step's response, and what it raises counts as raised by the step:

        - before `call_next`: the step had no effect, so an act is not done;
        - in the place of what the step raised: judged by its own type, as `not_done_on` and `atomic` say;
        - after the step returned, or was cancelled: the outcome of an act is unknown, whatever the type.

        To catch an error of the step and to return makes the step done. To return without `call_next` does not:
        `CallSkipped` is raised.
        """
        return await call_next()


def checked_middlewares(middlewares: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Middlewares as they are kept. Raises `InvalidArgument`."""
    if isinstance(middlewares, Middleware) or not isinstance(middlewares, Iterable):
        raise InvalidArgument("middlewares", middlewares, "give a list of middlewares, even if it is only one")
    given = tuple(middlewares)
    for one in given:
        if not isinstance(one, Middleware):
            raise InvalidArgument("middlewares", one, "give objects of classes that extend Middleware")
        if type(one).saga is Middleware.saga and type(one).step is Middleware.step:
            raise InvalidArgument("middlewares", one, "it overrides neither `saga` nor `step`, so nobody calls it")
        for name in ("saga", "step"):
            _check_callable(one, name)
    return given


def _check_callable(middleware: Middleware, name: str) -> None:
    """Refuse now what would fail each saga, and have it undone."""
    method = getattr(middleware, name)
    function, count = (method.__func__, 3) if isinstance(method, MethodType) else (method, 2)
    if not isinstance(function, FunctionType):
        return
    if has_yield(function):
        raise InvalidArgument(
            "middlewares", middleware, f"its `{name}` has a `yield`: write `await call_next()` in its place"
        )
    if not takes(function, count):
        raise InvalidArgument("middlewares", middleware, f"its `{name}` cannot be called as `{name}(call, call_next)`")
