"""The mediator itself: it has the sagas, and a task for each one that runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from threading import get_ident
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from anyio import CancelScope, create_task_group, get_cancelled_exc_class, move_on_after

from anysaga._arguments import check_counts, check_seconds
from anysaga._driver import LOOK
from anysaga._errors import InvalidArgument, MediatorClosed
from anysaga._event_map import EventMap, check_map
from anysaga._ids import checked_id, identity_of
from anysaga._middleware import Middleware, checked_middlewares
from anysaga._outbox import check_publisher
from anysaga._results import SagaResult
from anysaga._saga import Saga
from anysaga._wiring import GivenContainer
from anysaga.abc import Publisher, Storage
from anysaga.mediator._deliveries import Deliveries
from anysaga.mediator._drive import Drive
from anysaga.mediator._map import SagaMap
from anysaga.mediator._pool import TaskPool
from anysaga.mediator._startup import Hook, Startup
from anysaga.mediator._stream import Driving, SagaStream, Source, Watching
from anysaga.storages import MemoryStorage

ContextT = TypeVar("ContextT")

OnDisconnect = Literal["continue", "compensate"]

_CLOSING = 5.0
"""Seconds that a publisher may take to close."""


class SagaMediator:
    """Runs the saga that belongs to a context, as `run`, `stream`, `submit` or `resume`.

    **Within ``async with mediator``** sagas are driven by tasks of the mediator, and callers only wait for them. Who is
    cancelled, or leaves a stream, disconnects: the saga goes on (``on_disconnect="continue"``), or is undone
    (``"compensate"``). Leaving the block drains: each saga stops between two steps and is given back, to be resumed by
    its id or finished by `recover` or a worker; after `drain_timeout` seconds those that still run are cancelled, and
    have their own `grace` to end their step. Nothing is undone because of it; their callers get `MediatorClosed`.

    **Without it** a saga is driven in its caller's own task, as `Saga.transaction` does: a cancelled caller undoes it,
    and a stream that is dropped in the middle gives it back.

    `storage` keeps the sagas; without one it is a `MemoryStorage`, and nothing survives the process. It is neither
    opened nor closed here. `container` makes their steps, `middlewares` stand around those that the sagas have.
    `on_startup` are functions without arguments, plain or async, each called once, before the block begins or before
    the first saga. One that fails raises to who came first, and is tried again by the next one. Making a mediator does
    no I/O.

    `events` is the `EventMap` of those sagas that have none of their own, `publisher` what sends events to a broker. It
    is opened and closed with the block. Within the block events are delivered as they come, and once more before it
    ends; without it, when a saga has ended and before its caller goes on. What cannot be delivered then waits in the
    storage. Without a publisher, events for the broker are left to another `EventRelay`; none are recorded for sagas
    without an `EventMap`. `max_concurrent_event_handlers` handlers run at once; one after the other with
    ``concurrent_event_handle_enable=False``. Without the block each caller delivers by itself, and each at that rate.

    What a saga raises comes out as it is, never in a group. A mediator belongs to one event loop.

        sagas = SagaMap()
        sagas.bind(Order, OrderSaga)
        async with SagaMediator(sagas, storage=storage, container=services) as mediator:
            async for step in mediator.stream(order, saga_id="order-17"):
                print(step.step_name, step.response)
    """

    def __init__(
        self,
        sagas: SagaMap,
        *,
        storage: Storage | None = None,
        container: GivenContainer | None = None,
        events: EventMap | None = None,
        publisher: Publisher | None = None,
        middlewares: Iterable[Middleware] = (),
        on_startup: Iterable[Hook] = (),
        max_concurrent_event_handlers: int = 1,
        concurrent_event_handle_enable: bool = True,
        on_disconnect: OnDisconnect = "continue",
        drain_timeout: float = 20.0,
    ) -> None:
        if not isinstance(sagas, SagaMap) or not sagas:
            raise InvalidArgument("sagas", sagas, "give a SagaMap that binds at least one context to its saga")
        if on_disconnect not in ("continue", "compensate"):
            raise InvalidArgument("on_disconnect", on_disconnect, 'it is "continue" or "compensate"')
        check_publisher(publisher)
        check_counts(max_concurrent_event_handlers=max_concurrent_event_handlers)
        check_seconds(drain_timeout=drain_timeout)
        kept = MemoryStorage() if storage is None else storage
        self._storage = kept
        outer = checked_middlewares(middlewares)
        common = EventMap(publish=publisher is not None) if events is None else check_map(events)
        self._sagas = sagas.prepared(lambda saga: saga.moved_to(kept, container, inside=outer, events=common))
        self._deliveries = Deliveries(
            kept,
            {id(saga.definition.events): saga.definition.events for saga in self._sagas}.values(),
            publisher,
            container,
            max_concurrent=max_concurrent_event_handlers,
            concurrent=concurrent_event_handle_enable,
        )
        self._startup = Startup(on_startup)
        self._goes_on = on_disconnect == "continue"
        self._drain_timeout = drain_timeout
        self._pool: TaskPool | None = None
        self._thread = 0
        self._entered = False
        self._closed = False
        self._drives: dict[Drive, None] = {}

    @property
    def storage(self) -> Storage:
        """Where the sagas are kept."""
        return self._storage

    @property
    def sagas(self) -> SagaMap:
        """The sagas as they run here."""
        return self._sagas

    async def run(self, context: ContextT, *, saga_id: str | uuid.UUID | None = None) -> SagaResult[ContextT]:
        """Run the context's saga to its end, and return its result.

        With the id of a stored saga, that one goes on, and `context` is filled in place. Errors are those of
        `Saga.run`, and `ContextNotMapped`, `MediatorClosed`.
        """
        return await self._run(self._sagas.of(context), context, identity_of(saga_id))

    def stream(self, context: ContextT, *, saga_id: str | uuid.UUID | None = None) -> SagaStream[ContextT]:
        """Run the context's saga, and see its steps one by one: an async iterator over `StepResult`.

        It begins when the first one is asked for. Within ``async with mediator`` the saga does not wait for who looks.
        Errors are those of `run`.
        """
        saga, identity = self._sagas.of(context), identity_of(saga_id)

        def begin() -> Source:
            if self._pool is None:
                return Driving(saga.transaction(context, saga_id=identity), self._deliveries.flush)
            drive = self._start(self._pool, saga, context, identity, shows=True)
            return Watching(drive, lambda: self._disconnect(drive))

        return SagaStream(identity, lambda: self._ready(saga, identity), begin)

    async def submit(self, context: object, *, saga_id: str | uuid.UUID | None = None) -> str:
        """Leave the context's saga to the workers, and return its id; see `Saga.submit`."""
        saga, identity = self._sagas.of(context), identity_of(saga_id)
        await self._ready(saga, identity)
        return await saga.submit(context, saga_id=identity)

    async def resume(self, saga_id: str | uuid.UUID) -> SagaResult[Any]:
        """Go on with a stored saga, found by its name, with its stored context, and return its result.

        One that had been completed before gives its stored result. Raises `SagaNotFound`; `SagaMismatch` if its saga is
        not in the map; `SagaAlreadyRunning` if somebody drives it, this mediator included; `SagaCompensated`,
        `SagaParked`, `SagaAbandoned`; and what `run` raises.
        """
        identity = checked_id(saga_id)
        await self._startup()  # before the store is asked, which may need it
        record = await self._storage.load(identity)
        return await self._run(self._sagas.stored(record.summary), None, identity)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidArgument("mediator", self, "it is open already: enter it once, and share it")
        self._entered = True
        try:
            await self._startup()
            await self._deliveries.open()
            group = create_task_group()
            await group.__aenter__()
        except BaseException:
            self._entered = False
            raise
        self._pool, self._thread = TaskPool(group), get_ident()
        self._closed = False
        group.start_soon(self._deliveries.run, name="events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool = self._pool
        if pool is None:
            raise InvalidArgument("mediator", self, "it is not open: enter it with `async with`, and leave it once")
        self._pool = None
        self._closed = True
        pool.close()
        try:
            with move_on_after(self._drain_timeout):
                while self._drives:
                    await self._drain()  # noqa: ASYNC102 - a cancellation may end it
                await self._deliveries.finish()  # noqa: ASYNC102 - the same
        finally:
            for drive in self._drives:
                drive.stop()
            self._deliveries.stop()
            await self._end(pool)  # noqa: ASYNC102 - waits for what was just stopped

    async def _drain(self) -> None:
        """Wait for one saga to stop, for a while."""
        for drive in self._drives:
            drive.stop_waiting()
        with move_on_after(LOOK):
            await next(iter(self._drives)).ended.wait()

    async def _end(self, pool: TaskPool) -> None:
        try:
            # The group is told of no error, which it would wrap; who left with one sees it as it is.
            await pool.group.__aexit__(None, None, None)
        finally:
            with CancelScope(shield=True), move_on_after(_CLOSING):
                await self._deliveries.close()
            self._entered = False  # not before: what is closed here would be missing to who enters next

    async def _run(self, saga: Saga[ContextT], context: ContextT | None, saga_id: str) -> SagaResult[ContextT]:
        if self._closed or self._startup.is_left:  # asked here, since it seldom is
            await self._ready(saga, saga_id)
        if self._pool is None:
            try:
                return await saga.run(context, saga_id=saga_id)
            finally:
                await self._deliveries.flush()  # noqa: ASYNC102 - one who is cancelled leaves it to later
        drive = self._start(self._pool, saga, context, saga_id, shows=False)
        try:
            await drive.ended.wait()
        except get_cancelled_exc_class():
            self._disconnect(drive)
            raise
        return drive.result()

    async def _ready(self, saga: Saga[Any], saga_id: str) -> None:
        if self._closed:
            raise MediatorClosed(saga.definition.name, saga_id)
        if self._startup.is_left:
            await self._startup()

    def _start(
        self, pool: TaskPool, saga: Saga[ContextT], context: ContextT | None, saga_id: str, *, shows: bool
    ) -> Drive:
        if get_ident() != self._thread:
            words = "it is open in another event loop: make one for each loop, or a BlockingMediator for all threads"
            raise InvalidArgument("mediator", self, words)
        transaction = saga._transaction(context, saga_id, drains=True)
        drive = Drive(transaction, pool, ends=self._drives.pop, shows=shows)
        self._drives[drive] = None
        drive.start()
        return drive

    def _disconnect(self, drive: Drive) -> None:
        if not self._goes_on:
            drive.go_back()
