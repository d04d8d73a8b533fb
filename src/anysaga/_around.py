"""Middlewares around what they stand around: a saga from its opening to its end, and each call of a step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from anyio import get_cancelled_exc_class

from anysaga._calls import Fate, How, invoke_plain
from anysaga._cancellations import asks_to_end, is_stray, native_cancellations
from anysaga._current import CurrentStep, current_step
from anysaga._errors import CallSkipped, MiddlewareMisused, StrayCancellation
from anysaga._methods import is_async
from anysaga._middleware import Middleware, SagaCall, StepCall
from anysaga._results import SagaResult
from anysaga._step import Step
from anysaga._two_parts import TwoParts


def around_steps(
    middlewares: Iterable[Middleware], steps: Mapping[str, Step[Any, Any]], grace: float
) -> Mapping[str, Step[Any, Any]]:
    """The same steps, each called through those middlewares that care for steps."""
    caring = [one for one in middlewares if type(one).step is not Middleware.step]
    if not caring:
        return steps
    caring.reverse()
    return {path: _AroundStep(step, caring, grace) for path, step in steps.items()}


def cares_for_sagas(middleware: Middleware) -> bool:
    """Whether a middleware stands around whole sagas."""
    return type(middleware).saga is not Middleware.saga


class AroundSaga:
    """The middlewares of one run of a saga: they begin with `enter`, and end with `leave`."""

    @classmethod
    def of(cls, middlewares: Iterable[Middleware], call: SagaCall) -> AroundSaga | None:
        """Those that care for sagas, or None if none does."""
        caring = [one for one in middlewares if cares_for_sagas(one)]
        return cls(caring, call) if caring else None

    def __init__(self, middlewares: list[Middleware], call: SagaCall) -> None:
        self.call = call
        self._middlewares = middlewares
        self._parts: TwoParts[SagaResult[Any]] | None = None
        self._reached = False
        self._native_before = 0

    async def enter(self) -> None:
        """Call the middlewares, each of which calls the next one. Raises what they raise, and `CallSkipped`."""
        self._native_before = native_cancellations()
        self._parts = parts = TwoParts(self._chain)
        try:
            paused = await parts.begin()
        except BaseException as raised:
            self._refuse_stray(raised)
            raise
        if not paused:
            raise CallSkipped(self.call.saga, self.call.saga_id, "")

    async def leave(self, result: SagaResult[Any] | None, error: BaseException | None) -> None:
        """Tell the innermost one how it ended. Raises what comes out, unless that is `error` itself."""
        parts = self._parts
        if parts is None:
            return
        try:
            if error is None and result is not None:
                await parts.go_on(result)
            elif error is not None:
                await parts.go_on_with(error)
        except BaseException as raised:  # noqa: ASYNC103 - what came in is raised again by who left
            if raised is error:
                return  # noqa: ASYNC104 - as above
            self._refuse_stray(raised)
            raise
        if error is not None:
            self._refuse_stray(error)  # it was sent by a scope around `call_next`, which has caught it

    def _refuse_stray(self, raised: BaseException) -> None:
        if is_stray(raised, self._native_before):
            raise StrayCancellation(f"what stands around saga {self.call.saga!r} ({self.call.saga_id})") from raised

    async def _chain(self, pause: Callable[[], Awaitable[SagaResult[Any]]]) -> None:
        parts = self._parts
        assert parts is not None  # noqa: S101 - set by `enter`, which calls this

        async def innermost() -> SagaResult[Any]:
            if self._reached or not parts.runs:
                problem = "called on twice" if self._reached else "called on in another task"
                raise MiddlewareMisused(self.call.saga, self.call.saga_id, "", problem)
            self._reached = True
            return await pause()

        go_on: Callable[[], Awaitable[SagaResult[Any]]] = innermost
        for middleware in reversed(self._middlewares):
            go_on = partial(middleware.saga, self.call, go_on)
        await go_on()


class _AroundStep(Step[Any, Any]):
    """Stands where the step would, for the engine."""

    def __init__(self, step: Step[Any, Any], middlewares: list[Middleware], grace: float) -> None:
        self._step = step
        *self._inner, self._outermost = middlewares  # the innermost first
        self._grace = grace
        self.probe = step.probe  # type: ignore[method-assign]  # called as it is, around no middleware

    async def act(self, context: Any, /) -> Any:
        return await self._through("act", self._step.act, context)

    async def compensate(self, context: Any, /) -> None:
        await self._through("undo", self._step.compensate, context)

    async def _through(self, verb: Literal["act", "undo"], method: Callable[[Any], Any], context: Any) -> Any:
        current = current_step()
        call = StepCall(
            current.saga_id, current.saga_name, current.step_name, current.path, current.attempt, verb, context
        )
        reach = _Reach(method, context, current, self._grace)
        go_on: Callable[[], Awaitable[Any]] = reach
        for middleware in self._inner:
            go_on = partial(middleware.step, call, go_on)
        try:
            value = await self._outermost.step(call, go_on)
        except get_cancelled_exc_class() as cancelled:
            reach.end_cancelled(cancelled)
            raise
        except BaseException as error:
            if not asks_to_end(error):
                reach.end_raised(error)
            raise
        finally:
            reach.over = True
        reach.end_returned()
        return value


class _Reach:
    """The step's own call, at the end of the chain. Each ``end_...`` raises a `Fate` if it knows more than the chain.

    `fate` is that of a thread which was asked to end.
    """

    # The class's own until they change: one is made for each call.
    began = reached = over = returned = raised = False
    fate: Fate | None = None

    def __init__(self, method: Callable[[Any], Any], context: Any, current: CurrentStep, grace: float) -> None:
        self.method = method
        self.context = context
        self.current = current
        self.grace = grace

    async def __call__(self) -> Any:
        if self.began or self.over:
            raise self._misused("called on twice" if self.began else "called on after its end")
        self.began = self.reached = True
        try:
            if is_async(self.method):
                value = await self.method(self.context)
                if hasattr(value, "__await__"):  # as in `call`
                    value = await value
            else:
                value = await invoke_plain(self.method, self.context, self.current, self.grace)
        except Fate as fate:
            self.fate, self.reached, self.returned = fate, fate.how is not How.NOT_CALLED, fate.how is How.RETURNED
            raise (fate.cancelled or fate) from None
        except BaseException as error:
            self.raised = not asks_to_end(error)
            raise
        self.returned = True
        return value

    def end_cancelled(self, cancelled: BaseException) -> None:
        """A cancellation came out of the chain."""
        if not self.reached:
            raise Fate(How.NOT_CALLED, cancelled=cancelled) from None
        if self.fate is not None:
            self.fate.cancelled = cancelled
            raise self.fate from None

    def end_raised(self, error: BaseException) -> None:
        """An error came out of the chain."""
        self._refuse_running_thread()
        if not self.reached:
            raise Fate(How.NOT_REACHED, error=error) from None
        if not self.raised:
            raise Fate(How.DISTURBED, error=error) from None

    def end_returned(self) -> None:
        """The chain returned."""
        self._refuse_running_thread()
        if not self.reached:
            skipped = CallSkipped(self.current.saga_name, self.current.saga_id, self.current.step_name)
            raise Fate(How.NOT_REACHED, error=skipped)
        if not (self.returned or self.raised):
            raise Fate(How.DISTURBED, error=self._misused("gave a result for a step that was cut short"))

    def _refuse_running_thread(self) -> None:
        if self.fate is not None and self.fate.how is How.STILL_RUNNING:
            raise Fate(How.STILL_RUNNING, thread=self.fate.thread) from None

    def _misused(self, problem: str) -> MiddlewareMisused:
        return MiddlewareMisused(self.current.saga_name, self.current.saga_id, self.current.step_name, problem)
