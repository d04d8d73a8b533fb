"""A worker: finishes what others have begun or submitted, for as long as it runs."""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

import anyio
from anyio import CancelScope, create_task_group, move_on_after
from anyio.abc import TaskGroup

from anysaga._arguments import check_counts, check_seconds
from anysaga._driver import LOOK
from anysaga._errors import InvalidArgument, StorageClosed, StorageError
from anysaga._records import Claim
from anysaga._recovery import Recovery
from anysaga._results import SagaResult
from anysaga._retry import backed_off
from anysaga._saga import Saga
from anysaga._signatures import is_plain
from anysaga._wiring import GivenContainer
from anysaga.abc import Storage

logger = logging.getLogger("anysaga.worker")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SagaWorker:
    """Takes up sagas that were submitted, or whose owner is gone, and drives them to their ends.

    Run as many workers as you like, in as many processes and on as many machines as reach the storage: each saga is
    driven by one of them at a time. A saga of a worker that died is taken over within the storage's lease and `poll`.

    `container` makes the steps of all sagas; without it each has its own. `concurrency` is how many sagas it drives at
    once; it never holds more. `poll` is how many seconds pass between two looks while there is nothing to do.
    `drain_timeout` is how many seconds running sagas may take to come to the end of a step once the worker is told to
    stop; then they are cancelled, and have their own `grace` to end. `on_result` is called, in the loop, with the
    result of each saga that reached an end here.

    A saga that cannot be decoded, or does not fit its definition, is parked. One that fails in another way is logged
    and due again later. While the store does not answer the worker waits, longer each time. None of that ends it.

        async with SQLAlchemyStorage("postgresql+psycopg://orders@db/orders") as storage:
            await SagaWorker([OrderSaga, RefundSaga], storage=storage, container=services).run()

    Raises `InvalidArgument` for numbers that make no sense, for an `on_result` that is no plain function, for no saga
    at all, and for two different ones of one name and version.
    """

    def __init__(
        self,
        sagas: Iterable[Saga[Any] | type[Saga[Any]]],
        *,
        storage: Storage,
        container: GivenContainer | None = None,
        concurrency: int = 10,
        poll: float = 1.0,
        drain_timeout: float = 20.0,
        on_result: Callable[[SagaResult[Any]], object] | None = None,
    ) -> None:
        check_counts(concurrency=concurrency)
        check_seconds(poll=poll, drain_timeout=drain_timeout)
        if on_result is not None and not is_plain(on_result):
            raise InvalidArgument("on_result", on_result, "give a plain function of a result, which nobody awaits")
        self._recovery = Recovery.of(sagas, storage, container)
        self._recovery.stops = lambda: self._drains
        self._concurrency = concurrency
        self._poll = poll
        self._drain_timeout = drain_timeout
        self._on_result = on_result
        self._drains = False
        self._running = 0
        self._changed: anyio.Event | None = None
        self._ends: anyio.Event | None = None
        self._closed: StorageClosed | None = None

    async def run(self, *, handle_signals: bool = True) -> None:
        """Work until `drain` is called, SIGTERM or Ctrl-C comes, or this is cancelled.

        The first signal drains, a second one cancels. What is cancelled has its saga's `grace` to end its step; a step
        that does not is left as unknown to whoever takes the saga over. Nothing is undone because of it. Signals can be
        handled in the main thread only; elsewhere, and with ``handle_signals=False``, they are left alone.

        Raises `InvalidArgument` if it runs already, `StorageClosed` if the storage was closed.
        """
        if self._changed is not None:
            raise InvalidArgument("worker", self, "it runs already: make one worker for each run")
        self._changed, self._ends = anyio.Event(), anyio.Event()
        try:
            async with create_task_group() as group:
                if handle_signals and threading.current_thread() is threading.main_thread():
                    group.start_soon(self._watch_signals, group.cancel_scope)
                async with create_task_group() as sagas:
                    group.start_soon(self._limit, sagas.cancel_scope, self._ends)  # noqa: ASYNC111 - cancelled at their end
                    await self._take_up(sagas)
                    self._ends.set()
                group.cancel_scope.cancel()
        finally:
            self._drains, self._changed, self._ends = False, None, None
        if self._closed is not None:
            raise self._closed  # not from inside, where task groups would wrap it

    def drain(self) -> None:
        """Take up nothing more, let running sagas stop between two steps, and have `run` return.

        To be called in the worker's event loop; it may be told before it begins. Sagas that are given back are due at
        once, for other workers.
        """
        self._drains = True
        self._notify()
        if self._ends is not None:
            self._ends.set()

    async def _watch_signals(self, scope: CancelScope) -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            async for number in signals:
                if self._drains:
                    scope.cancel()
                    return
                logger.info("%s: no more sagas are taken up", signal.Signals(number).name)
                self.drain()

    async def _limit(self, scope: CancelScope, ends: anyio.Event) -> None:
        await ends.wait()
        with move_on_after(self._drain_timeout):
            while True:
                self._recovery.stop_waiting()
                await anyio.sleep(LOOK)
        logger.warning("%d sagas did not stop within %g s and are cancelled", self._running, self._drain_timeout)
        scope.cancel()

    async def _take_up(self, group: TaskGroup) -> None:
        failures = 0
        while not self._drains:
            room = self._concurrency - self._running
            claims: list[Claim] = []
            if room:
                try:
                    claims = await self._recovery.storage.claim_due(self._recovery.names, room)
                    failures = 0
                except StorageClosed as error:
                    self._closed = error
                    return
                except StorageError as error:
                    failures += 1
                    logger.warning("no sagas could be taken up: %s", error)
            for claim in claims:
                self._running += 1
                group.start_soon(self._finish, claim)
            if len(claims) < room:  # there is no more at the moment
                await self._pause(backed_off(self._poll, failures))
            else:
                await self._wait()

    async def _finish(self, claim: Claim) -> None:
        try:
            result = await self._recovery.finish_or_log(claim)
            if result is not None and result.state.is_end:
                self._tell(result)
        finally:
            self._running -= 1
            self._notify()

    def _tell(self, result: SagaResult[Any]) -> None:
        if self._on_result is None:
            return
        try:
            self._on_result(result)
        except Exception:
            logger.exception("on_result failed for saga %s, whose state is %s", result.saga_id, result.state)

    async def _pause(self, seconds: float) -> None:
        """Wait until the next look; not always as long, so that workers that began together do not stay together."""
        with move_on_after(seconds * random.uniform(0.5, 1)):  # noqa: S311 - nothing secret
            while not self._drains:
                await self._wait()

    async def _wait(self) -> None:
        """Wait until a saga has ended, or nothing more is to be taken up."""
        if self._drains or self._changed is None:
            return
        await self._changed.wait()
        self._changed = anyio.Event()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
