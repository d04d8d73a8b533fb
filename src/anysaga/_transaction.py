"""One run of one saga, as `async with` and `async for`."""

from __future__ import annotations

import types
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from anysaga._arguments import check_texts
from anysaga._definition import Definition
from anysaga._driver import Driver
from anysaga._end_words import note_on_undo, words_of_cancellation
from anysaga._errors import TransactionMisused, UnfinishedSagaWarning
from anysaga._middleware import Middleware
from anysaga._notes import add_note
from anysaga._opening import Opened, open_saga
from anysaga._records import SagaState
from anysaga._results import SagaResult, StepResult
from anysaga._saga_scope import SagaScope, steps_without_scope
from anysaga._step import Step
from anysaga.abc import Container, Storage

ContextT = TypeVar("ContextT")

_TWO_TASKS = "is used by two tasks at once"


class SagaTransaction(Generic[ContextT]):
    """Runs a saga step by step: iterate to go on, leave to decide what becomes of it.

    - Iterating yields a `StepResult` for each step that is done. The last one arrives when the saga is durably
      completed: an exception after it undoes nothing any more.
    - A step that fails for good makes the saga go back first; then its own exception is raised, with a note that says
      what was undone. `SagaParked` is raised from it if something could not be undone.
    - Leaving ``async with`` with an exception, or being cancelled, undoes what was done.
    - Leaving it before the end without an exception gives the saga back, resumable by its id, and warns
      (`UnfinishedSagaWarning`) unless `suspend` was called.

    Entering raises `SagaAlreadyRunning`, `SagaMismatch`, `SagaNotFound` (resuming an unknown id), `NotStorable`,
    `NotProvided`, `ContainerFailed` and the errors of a saga that ended before: `SagaCompensated`, `SagaParked`,
    `SagaAbandoned`. One that was completed before yields nothing and has its stored `result`.

        async with saga.transaction(order, saga_id="order-17") as transaction:
            async for step in transaction:
                print(step.step_name, step.response)
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_context",
        "_definition",
        "_drains",
        "_left",
        "_opened",
        "_saga_id",
        "_scope",
        "_steps",
        "_storage",
        "_suspended",
    )

    def __init__(
        self,
        definition: Definition,
        storage: Storage,
        container: Container,
        context: ContextT | None,
        saga_id: str,
        *,
        middlewares: tuple[Middleware, ...] = (),
        drains: bool = False,
    ) -> None:
        self._definition = definition
        self._storage = storage
        self._context = context
        self._saga_id = saga_id
        self._drains = drains
        self._steps = steps_without_scope(definition, container, middlewares)
        self._scope: SagaScope | None = None
        if self._steps is None:
            self._scope = SagaScope(definition, container, saga_id, middlewares, context=context)
        self._opened: Opened | None = None
        self._left = False
        self._busy = False
        self._suspended = False

    @property
    def saga_id(self) -> str:
        """The saga's id."""
        return self._saga_id

    @property
    def saga_name(self) -> str:
        """The saga's name."""
        return self._definition.name

    @property
    def grace(self) -> float:
        """Seconds that undoing may go on after a cancellation."""
        return self._definition.grace

    @property
    def context(self) -> ContextT:
        """The context: the caller's own object, or the stored one of a saga that was resumed without."""
        value: ContextT = self._entered().context.value
        return value

    @property
    def state(self) -> SagaState:
        """Where the saga stands."""
        return self._entered().progress.state

    @property
    def result(self) -> SagaResult[ContextT]:
        """The saga as it stands, with the results of the steps that are done, those of earlier runs included."""
        return self._entered().result()

    def stay_in_one_task(self) -> None:
        """Say before entering that one task does all until this is left, and nobody looks in between."""
        if self._scope is not None:
            self._scope.stay_in_one_task()

    async def run_to_end(self, *, stops: Callable[[], bool] | None = None) -> None:
        """Go on to the end without looking at the steps. The same as an empty ``async for``, and a little faster.

        `stops` is asked after each step: once it says so, the saga is suspended.
        """
        driver = self._driver("cannot be run")
        if driver is None:
            return
        self._begin_turn()
        run = driver.stepping.run
        run.stops, run.watched = stops, stops is not None
        try:
            await driver.advance()
            if not driver.is_over:
                self._suspended = True
                await driver.suspend()
        finally:
            self._end_turn(driver)

    async def abort(self, reason: str = "aborted on purpose") -> None:
        """Undo the saga. The iteration ends, and leaving ``async with`` is quiet.

        Raises `PivotPassed` after a point of no return, `SagaParked` if something could not be undone, and
        `TransactionMisused` if the saga is not ours any more: after `suspend`, say, it is somebody else's to undo.
        """
        check_texts(reason=reason)
        driver = self._driver("cannot be aborted")
        if driver is None:
            self._refuse_if_given_back()
            return
        self._begin_turn()
        try:
            await driver.abort(driver.stepping.context.without_secrets(reason))
        finally:
            self._end_turn(driver)
        if self.state is SagaState.PARKED:
            raise driver.end_error()

    async def suspend(self) -> None:
        """Give the saga back as it is, on purpose: it can be resumed by its id, here or elsewhere."""
        driver = self._driver("cannot be suspended")
        if driver is not None:
            self._begin_turn()
            try:
                await driver.suspend()
            finally:
                self._end_turn(driver)
        self._suspended = True

    async def __aenter__(self) -> Self:
        if self._opened is not None or self._left:
            raise TransactionMisused(self._definition.name, "was entered twice")
        self._left = True
        if self._scope is None:
            self._opened = await self._open(self._steps or {})
        else:
            await self._open_within(self._scope)
        self._left = False
        return self

    async def _open_within(self, scope: SagaScope) -> None:
        await scope.__aenter__()
        try:
            self._opened = await self._open(await scope.steps(), scope.notes)
        except BaseException as error:
            await scope.__aexit__(type(error), error, error.__traceback__)  # noqa: ASYNC102 - shields itself
            raise
        if scope.tells:
            scope.result = self._opened.result

    def _open(self, steps: Mapping[str, Step[Any, Any]], notes: tuple[str, ...] = ()) -> Awaitable[Opened]:
        return open_saga(
            self._definition, self._storage, steps, self._context, self._saga_id, notes=notes, drains=self._drains
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StepResult[Any]:
        driver = self._driver("cannot be iterated")
        if driver is None:
            raise StopAsyncIteration
        self._begin_turn()
        try:
            result = await driver.advance()
        finally:
            self._end_turn(driver)
        if result is None:
            raise StopAsyncIteration
        driver.stepping.context.show()
        return result

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._left = True
        driver = self._opened.driver if self._opened is not None else None
        scope = self._scope
        try:
            if self._busy:
                self._leave_busy(exc)
            elif driver is not None and not driver.is_over:
                await self._leave(driver, exc)  # noqa: ASYNC102 - shields itself, and is bounded
        except BaseException as error:
            if scope is not None:
                await scope.__aexit__(type(error), error, error.__traceback__)  # noqa: ASYNC102 - shields itself
            raise
        if scope is not None:
            await scope.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - shields itself

    def __del__(self) -> None:
        opened = getattr(self, "_opened", None)
        if opened is not None and opened.driver is not None and not self._left:
            opened.driver.drop()

    def _begin_turn(self) -> None:
        """Begin to use the driver. A second use beside it could undo a step, or give it to others, while it acts."""
        if self._busy:
            raise TransactionMisused(self._definition.name, _TWO_TASKS)
        self._busy = True

    def _end_turn(self, driver: Driver) -> None:
        self._busy = False
        if self._left:
            driver.drop()

    def _refuse_if_given_back(self) -> None:
        driver = self._entered().driver
        if driver is not None and not driver.has_ended:
            raise TransactionMisused(self._definition.name, "cannot be aborted once its saga was given back")

    def _leave_busy(self, exc: BaseException | None) -> None:
        """Another task is still inside the saga: it is left alone, and its end gives the saga back."""
        problem = TransactionMisused(self._definition.name, _TWO_TASKS)
        if exc is None:
            raise problem
        add_note(exc, str(problem))

    async def _leave(self, driver: Driver, exc: BaseException | None) -> None:
        if exc is None:
            await self._leave_unfinished(driver)
            return
        if isinstance(exc, GeneratorExit):
            driver.drop()
            return
        is_error = isinstance(exc, Exception)  # and no cancellation, nor anything else that ends its caller
        words = driver.stepping.context.in_words(exc) if is_error else ""
        await driver.leave(exc, f"its caller raised {words}" if is_error else words_of_cancellation(exc))
        if driver.progress.parked is not None and is_error:
            raise driver.end_error() from exc
        if driver.progress.end is not None:
            add_note(exc, note_on_undo(driver.progress, self._saga_id))

    async def _leave_unfinished(self, driver: Driver) -> None:
        await driver.suspend()  # before the warning, which may be an error
        if not self._suspended:
            warnings.warn(
                f"saga {self._definition.name!r} ({self._saga_id}) was left before its end; it can be resumed by its "
                "id. Iterate to the end, or call `await transaction.suspend()` or `await transaction.abort()`",
                UnfinishedSagaWarning,
                stacklevel=4,
            )

    def _entered(self) -> Opened:
        if self._opened is None:
            raise TransactionMisused(self._definition.name, "was not entered")
        return self._opened

    def _driver(self, problem: str) -> Driver | None:
        opened = self._entered()
        if self._left:
            raise TransactionMisused(self._definition.name, f"{problem} after its end")
        driver = opened.driver
        return None if driver is None or driver.is_exhausted else driver
