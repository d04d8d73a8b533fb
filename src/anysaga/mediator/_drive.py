"""One saga in a task of the mediator: whoever waits for it may go away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio import CancelScope

from anysaga._cancellations import asks_to_end, refusing_strays
from anysaga._driver import Driver
from anysaga._errors import MediatorClosed
from anysaga._results import SagaResult, StepResult
from anysaga._transaction import SagaTransaction
from anysaga.mediator._pool import TaskPool


class Drive:
    """Drives a saga to its end in a task of the pool.

    Once the pool is closed, the saga is given back between two steps. `shows` says that somebody looks at the results
    one by one. `ends` is called at its end. What the saga raises is kept for those who wait.
    """

    def __init__(
        self,
        transaction: SagaTransaction[Any],
        pool: TaskPool,
        *,
        ends: Callable[[Drive], object],
        shows: bool,
    ) -> None:
        self._transaction = transaction
        self._pool = pool
        self._ends = ends
        self._shows = shows
        self._shown: list[StepResult[Any]] = []
        self._scope: CancelScope | None = None  # the task's, while that is ours
        self._goes_back = False
        self._moved: anyio.Event | None = None
        self.ended = anyio.Event()
        self._error: BaseException | None = None
        self._result: SagaResult[Any] | None = None

    @property
    def saga_id(self) -> str:
        """The saga's id."""
        return self._transaction.saga_id

    def __str__(self) -> str:
        return f"saga {self._transaction.saga_name!r} ({self.saga_id})"

    def start(self) -> None:
        """Have the saga driven soon."""
        self._scope = self._pool.start(self)

    async def __call__(self) -> None:
        """Drive the saga, in the pool. Nothing comes out but cancellations."""
        try:
            with refusing_strays(self, ours=True):
                await self._run()
        except BaseException as error:  # noqa: ASYNC103 - raised again where somebody waits for it
            if asks_to_end(error):
                raise
            self._error = error

    def end(self) -> None:
        """Tell those who wait that nothing more comes."""
        self._scope = None
        self._ends(self)
        self.ended.set()
        self._tell()

    def go_back(self) -> None:
        """Undo the saga: the running step is cancelled, as if this were a task of the caller."""
        if self._scope is None:
            return
        self._goes_back = True
        self._undo_when_cancelled()
        self._scope.cancel()

    def stop(self) -> None:
        """Give the saga back, and undo nothing: a running act has the saga's grace to end."""
        if self._scope is None:
            return
        driver = self._driver
        if driver is not None and driver.stepping.run.in_call and not driver.progress.going_back:
            self._scope.deadline = anyio.current_time() + self._transaction.grace
        else:
            self._scope.cancel()

    def stop_waiting(self) -> None:
        """Give the saga back if it only waits for the turn of a retry."""
        if self._scope is not None and self._driver is not None and self._driver.only_waits:
            self._scope.cancel()

    def _undo_when_cancelled(self) -> None:
        if self._driver is not None:
            self._driver.stepping.run.drains = False

    @property
    def _driver(self) -> Driver | None:
        opened = self._transaction._opened
        return None if opened is None else opened.driver

    async def next(self, number: int) -> StepResult[Any] | None:
        """Wait for the result of this number, from 0; None once there is none. Raises what the saga raised."""
        while number >= len(self._shown):
            if self.ended.is_set():
                self.result()
                return None
            if self._moved is None:
                self._moved = anyio.Event()
            await self._moved.wait()
        return self._shown[number]

    def result(self) -> SagaResult[Any]:
        """How the saga ended. Raises what it raised, and `MediatorClosed` if it was given back before its end."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # or its traceback and this frame would hold each other
        if self._result is None:
            raise MediatorClosed(self._transaction.saga_name, self.saga_id)
        return self._result

    def _tell(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set()

    async def _run(self) -> None:
        self._transaction.stay_in_one_task()
        async with self._transaction as transaction:
            if self._goes_back:  # its caller went away while it was being stored
                self._undo_when_cancelled()
            elif self._pool.is_closed():
                await transaction.suspend()
            if self._shows:
                async for step in transaction:
                    self._shown.append(step)
                    self._tell()
                    if self._pool.is_closed():
                        await transaction.suspend()
            else:
                await transaction.run_to_end(stops=self._pool.is_closed)
            if transaction.state.is_end:
                self._result = transaction.result
