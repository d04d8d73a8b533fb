"""Events of the mediator's sagas: to handlers and to the broker, whether it is entered or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import anyio
import pytest
from attrs import define
from journeys import Journey
from virtual_time import in_jumping_time

from anysaga import (
    EventHandler,
    EventMap,
    InvalidArgument,
    MemoryStorage,
    Middleware,
    NextSaga,
    Saga,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaResult,
    SagaState,
    Step,
    StorageClosed,
    StrayCancellation,
    current_step,
)
from anysaga.abc import Delivery, Message, Outbox, Publisher, Storage

pytestmark = pytest.mark.anyio


@define
class Paid:
    euros: int


@define
class Refunded:
    euros: int


class Pay(Step[Journey]):
    async def act(self, journey: Journey) -> None:
        current_step().record(Paid(7))

    async def compensate(self, journey: Journey) -> None:
        current_step().record(Refunded(7))


class Wait(Step[Journey]):
    read_only = True

    async def act(self, journey: Journey) -> None:
        await anyio.sleep_forever()


class Fail(Step[Journey]):
    read_only = True

    async def act(self, journey: Journey) -> None:
        raise RuntimeError("no")


class JourneySaga(Saga[Journey]):
    steps = (Pay,)


class FailingSaga(Saga[Journey]):
    steps = (Pay, Fail)


class Ledger:
    """What handlers were given; it tells when there is something."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.changed = anyio.Event()

    async def wait_for(self, number: int) -> None:
        while len(self.events) < number:
            self.changed = anyio.Event()
            await self.changed.wait()


class Enter(EventHandler[Any]):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def handle(self, event: object) -> None:
        self.ledger.events.append(event)
        self.ledger.changed.set()


class Broker(Publisher):
    def __init__(self) -> None:
        self.life: list[str] = []
        self.arrived: list[str] = []

    async def open(self) -> None:
        self.life.append("open")

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.life.append("closed")

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        self.arrived += [message.type for message in messages]
        return [None for _ in messages]


def made(
    storage: Storage,
    saga: type[Saga[Journey]],
    ledger: Ledger,
    *,
    publisher: Publisher | None = None,
    events: EventMap | None = None,
    middlewares: Sequence[Middleware] = (),
    **options: Any,
) -> SagaMediator:
    sagas = SagaMap()
    sagas.bind(Journey, saga)
    return SagaMediator(
        sagas,
        storage=storage,
        container={Ledger: lambda: ledger},
        events=events,
        publisher=publisher,
        middlewares=middlewares,
        **options,
    )


def handled() -> EventMap:
    return EventMap(publish=False).bind(Paid, Enter).bind(Refunded, Enter)


async def test_handlers_get_events_while_the_mediator_is_open(storage: Storage) -> None:
    ledger = Ledger()
    async with made(storage, JourneySaga, ledger, events=handled()) as mediator:
        await mediator.run(Journey())
        await ledger.wait_for(1)
    assert ledger.events == [Paid(7)]


async def test_handlers_have_all_events_when_the_block_has_ended(storage: Storage) -> None:
    ledger = Ledger()
    async with made(storage, JourneySaga, ledger, events=handled()) as mediator:
        for _ in range(3):
            await mediator.run(Journey())
    assert ledger.events == [Paid(7)] * 3


async def test_a_handler_that_runs_when_the_block_ends_comes_to_its_end(storage: Storage) -> None:
    begun, may_end = anyio.Event(), anyio.Event()
    ended: list[Paid] = []

    async def slow(event: Paid) -> None:
        begun.set()
        await may_end.wait()
        ended.append(event)

    async def leave() -> None:
        async with made(storage, JourneySaga, Ledger(), events=EventMap(publish=False).bind(Paid, slow)) as mediator:
            await mediator.run(Journey())
            await begun.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        may_end.set()
    assert ended == [Paid(7)]
    assert isinstance(storage, Outbox)
    assert (await storage.outbox_lag()).waiting == 0


@in_jumping_time
async def test_a_handler_that_does_not_end_keeps_nobody_longer_than_said() -> None:
    begun = anyio.Event()

    async def hang(event: Paid) -> None:
        begun.set()
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, hang)
    async with made(MemoryStorage(), JourneySaga, Ledger(), events=events, drain_timeout=5.0) as mediator:
        await mediator.run(Journey())
        await begun.wait()
        left_at = anyio.current_time()
    assert round(anyio.current_time() - left_at, 3) == 5


@in_jumping_time
@pytest.mark.parametrize(("enabled", "at_once"), [(True, 2), (False, 1)])
async def test_as_many_handlers_run_at_once_as_said(enabled: bool, at_once: int) -> None:
    began: list[Paid] = []
    all_began, may_end = anyio.Event(), [anyio.Event() for _ in range(3)]

    async def slow(event: Paid) -> None:
        began.append(event)
        if len(began) == 1 + at_once:
            all_began.set()
        await may_end[len(began) - 1].wait()

    events = EventMap(publish=False).bind(Paid, slow)
    handlers: dict[str, Any] = {"max_concurrent_event_handlers": 2, "concurrent_event_handle_enable": enabled}
    async with made(MemoryStorage(), JourneySaga, Ledger(), events=events, **handlers) as mediator:
        for _ in range(3):
            await mediator.run(Journey())
            await anyio.wait_all_tasks_blocked()
        may_end[0].set()  # what came meanwhile is taken up together
        with anyio.fail_after(10):
            await all_began.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(began) == 1 + at_once
        for each in may_end:
            each.set()
    assert len(began) == 3


async def test_a_mediator_whose_storage_keeps_no_events_relays_none() -> None:
    """Such as one of your own, which implements `Storage` alone."""
    broker = Broker()
    async with made(Mock(spec=Storage), JourneySaga, Ledger(), events=handled(), publisher=broker):
        await anyio.wait_all_tasks_blocked()
    assert (broker.life, broker.arrived) == (["open", "closed"], [])


async def test_a_block_that_ends_at_once_is_left_at_once(storage: Storage) -> None:
    with anyio.fail_after(10):
        async with made(storage, JourneySaga, Ledger(), events=handled()):
            pass


async def test_without_the_block_they_have_them_when_the_call_returns(storage: Storage) -> None:
    ledger = Ledger()
    mediator = made(storage, JourneySaga, ledger, events=handled())
    await mediator.run(Journey())
    assert ledger.events == [Paid(7)]
    async for _ in mediator.stream(Journey()):
        assert len(ledger.events) == 1  # not in the middle of the saga
    assert ledger.events == [Paid(7)] * 2


async def test_without_the_block_they_have_them_when_a_stream_raises(storage: Storage) -> None:
    ledger = Ledger()
    with pytest.raises(RuntimeError, match="no"):
        async for _ in made(storage, FailingSaga, ledger, events=handled()).stream(Journey()):
            pass
    assert ledger.events == [Paid(7), Refunded(7)]


class RaisesBehind(Middleware):
    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        await call_next()
        raise PermissionError("behind it")


@pytest.mark.parametrize("leaves_early", [False, True])
async def test_without_the_block_they_have_them_though_a_middleware_raises_at_the_end_of_a_stream(
    storage: Storage, *, leaves_early: bool
) -> None:
    ledger = Ledger()
    mediator = made(storage, JourneySaga, ledger, events=handled(), middlewares=[RaisesBehind()])
    with pytest.raises(PermissionError):
        async with mediator.stream(Journey()) as stream:
            async for _ in stream:
                if leaves_early:
                    break
    assert ledger.events == [Paid(7)]


async def test_events_of_a_saga_that_was_undone_arrive_too(storage: Storage) -> None:
    ledger = Ledger()
    mediator = made(storage, FailingSaga, ledger, events=handled())
    with pytest.raises(RuntimeError):
        await mediator.run(Journey())
    assert ledger.events == [Paid(7), Refunded(7)]


async def test_the_broker_is_open_with_the_block_and_gets_what_is_not_kept_from_it(storage: Storage) -> None:
    broker = Broker()
    async with made(storage, JourneySaga, Ledger(), publisher=broker) as mediator:
        assert broker.life == ["open"]
        await mediator.run(Journey())
    assert (broker.life, broker.arrived) == (["open", "closed"], ["Paid"])


async def test_without_a_broker_and_handlers_nothing_is_left_lying(storage: Storage) -> None:
    async with made(storage, JourneySaga, Ledger()) as mediator:
        await mediator.run(Journey())
    assert isinstance(storage, Outbox)
    assert (await storage.outbox_lag()).waiting == 0


async def test_a_handler_that_fails_changes_nothing_for_the_saga(storage: Storage) -> None:
    def fails(_: Paid) -> None:
        raise RuntimeError("no mail today")

    mediator = made(storage, JourneySaga, Ledger(), events=EventMap(publish=False).bind(Paid, fails))
    result = await mediator.run(Journey())
    assert result.state.value == "COMPLETED"
    assert isinstance(storage, Outbox)
    assert (await storage.outbox_lag()).waiting == 1


async def test_a_publisher_that_cannot_be_closed_keeps_nobody_from_leaving() -> None:
    class Stuck(Broker):
        async def aclose(self) -> None:
            raise ConnectionError("gone")

    async with made(MemoryStorage(), JourneySaga, Ledger(), publisher=Stuck()) as mediator:
        await mediator.run(Journey())


async def test_a_publisher_that_does_not_end_closing_keeps_nobody_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(Broker):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr("anysaga.mediator._mediator._CLOSING", 0.01)
    with anyio.fail_after(20):
        async with made(MemoryStorage(), JourneySaga, Ledger(), publisher=Hangs()) as mediator:
            await mediator.run(Journey())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_that_a_publisher_awaits_when_it_closes_cancels_nobody(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Broker):
        async def aclose(self) -> None:
            heartbeat = asyncio.ensure_future(anyio.sleep_forever())
            heartbeat.cancel()
            await heartbeat

    async with made(MemoryStorage(), JourneySaga, Ledger(), publisher=Careless()) as mediator:
        await mediator.run(Journey())
    assert "the publisher could not be closed" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_that_a_publisher_awaits_when_it_opens_is_a_failure_of_it(anyio_backend: str) -> None:
    class Careless(Broker):
        async def open(self) -> None:
            connecting = asyncio.ensure_future(anyio.sleep_forever())
            connecting.cancel()
            await connecting

    with pytest.raises(StrayCancellation, match="the publisher"):
        async with made(MemoryStorage(), JourneySaga, Ledger(), publisher=Careless()):
            raise AssertionError


async def test_a_storage_that_is_closed_first_keeps_nobody_from_leaving(storage: Storage) -> None:
    async with made(storage, JourneySaga, Ledger(), events=handled()) as mediator:
        await mediator.run(Journey())
        await storage.aclose()


async def test_the_end_of_the_relay_stops_no_saga() -> None:
    class Closed(MemoryStorage):
        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            raise StorageClosed("the store")

    async with made(Closed(), JourneySaga, Ledger(), events=handled()) as mediator:
        await anyio.wait_all_tasks_blocked()
        assert (await mediator.run(Journey())).state is SagaState.COMPLETED


@pytest.mark.parametrize("on_the_way", ["driving", "idle"])
async def test_a_publisher_is_closed_though_its_mediator_was_cancelled(storage: Storage, on_the_way: str) -> None:
    broker = Broker()

    class Hangs(Saga[Journey]):
        steps = (Wait,)
        grace = 0.01

    with anyio.CancelScope() as scope:
        async with made(storage, Hangs, Ledger(), publisher=broker) as mediator, anyio.create_task_group() as group:
            if on_the_way == "driving":
                group.start_soon(mediator.run, Journey())
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert broker.life == ["open", "closed"]


async def test_who_enters_while_the_publisher_is_being_closed_is_refused() -> None:
    """It would be closed under them."""
    closing, goes_on = anyio.Event(), anyio.Event()

    class Slow(Broker):
        async def aclose(self) -> None:
            closing.set()
            await goes_on.wait()
            await super().aclose()

    broker = Slow()
    mediator = made(MemoryStorage(), JourneySaga, Ledger(), publisher=broker)

    async def first() -> None:
        async with mediator:
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await closing.wait()
        with pytest.raises(InvalidArgument, match="it is open already"):
            await mediator.__aenter__()
        goes_on.set()
    async with mediator:
        assert broker.life == ["open", "closed", "open"]
