"""The relay and handlers: each gets its events on its own, within limits."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import anyio
import pytest
from paid_orders import Paid
from relays import AT_ONCE, Broker, Charge, Charged, Ledger, Note, Odd, run, running
from virtual_time import in_jumping_time

from anysaga import EventHandler, EventMap, MemoryStorage, Retry
from anysaga.events import EventRelay, current_message

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class NoteInThread(EventHandler[Paid]):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def handle(self, event: Paid) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.ledger.done.append(("thread", event.number, current_message().id))


async def test_each_handler_of_a_type_gets_the_event_made_by_the_container() -> None:
    storage = MemoryStorage()
    ledger = Ledger()
    functions: list[Paid] = []
    events = EventMap(publish=False).bind(Paid, Note, NoteInThread, functions.append)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, container={Ledger: lambda: ledger})
    assert await relay.deliver_due() == 3
    assert sorted(ledger.done) == [("note", 1, "a/1/act/1"), ("thread", 1, "a/1/act/1")]
    assert functions == [Paid(1)]


async def test_what_a_handler_returns_unawaited_is_awaited_before_its_event_counts_as_handled() -> None:
    class Unawaited(Note):
        async def handle(self, event: Paid) -> None:
            return super().handle(event)  # type: ignore[return-value]  # the forgotten `await`

    storage, ledger = MemoryStorage(), Ledger()
    events = EventMap(publish=False).bind(Paid, Unawaited)
    await run(storage, "a", events=events)
    await EventRelay(storage, events=events, container={Ledger: lambda: ledger}).deliver_due()
    assert ledger.done == [("note", 1, "a/1/act/1")]


async def test_a_scope_is_open_for_one_event_and_then_closed() -> None:
    storage = MemoryStorage()
    ledger = Ledger()

    class Container:
        @asynccontextmanager
        async def scope(self) -> AsyncIterator[Container]:
            yield self
            ledger.closed += 1

        async def get(self, wanted: type, /) -> object:
            return Note(ledger) if wanted is Note else ledger

    events = EventMap(publish=False).bind(Paid, Note)
    await run(storage, "a", "b", events=events)
    await EventRelay(storage, events=events, container=Container()).deliver_due()  # type: ignore[arg-type]  # as one
    assert (len(ledger.done), ledger.closed) == (2, 2)


@pytest.mark.parametrize("stopped_by", ["its time limit", "the relay"])
async def test_a_scope_is_closed_although_its_handler_was_stopped(stopped_by: str) -> None:
    """Closing may wait, as that of a connection does."""
    storage = MemoryStorage()
    ledger, began = Ledger(), anyio.Event()

    class Hangs(EventHandler[Paid]):
        async def handle(self, event: Paid) -> None:
            began.set()
            await anyio.sleep_forever()

    class Container:
        @asynccontextmanager
        async def scope(self) -> AsyncIterator[Container]:
            try:
                yield self
            finally:
                await anyio.lowlevel.checkpoint()
                ledger.closed += 1

        async def get(self, wanted: type, /) -> object:
            return Hangs()

    events = EventMap(publish=False).bind(Paid, Hangs)
    await run(storage, "a", events=events)
    limit = 0.01 if stopped_by == "its time limit" else 600.0
    relay = EventRelay(storage, events=events, container=Container(), handler_timeout=limit)  # type: ignore[arg-type]  # as one
    if stopped_by == "its time limit":
        await relay.deliver_due()
    else:
        async with running(relay):
            await began.wait()
    assert ledger.closed == 1


class Scopes:
    """A container that does in its scopes what it is told, and makes what needs nothing."""

    def __init__(self, scope: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._scope = scope

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Scopes]:
        async with self._scope():
            yield self

    async def get(self, wanted: type[T], /) -> T:
        return wanted()


async def test_a_scope_hears_that_its_handler_failed() -> None:
    """Whoever keeps a transaction in it would commit it otherwise."""
    storage, seen = MemoryStorage(), list[Exception]()

    class Fails(EventHandler[Paid]):
        def handle(self, event: Paid) -> None:
            raise RuntimeError("no")

    @asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(error)
            raise

    events = EventMap(publish=False).bind(Paid, Fails)
    await run(storage, "a", events=events)
    await EventRelay(storage, events=events, container=Scopes(scope)).deliver_due()
    assert [str(error) for error in seen] == ["no"]


@in_jumping_time
async def test_a_scope_that_does_not_end_closing_holds_up_its_relay_for_a_moment_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage, heard = MemoryStorage(), list[str]()

    class Hears(EventHandler[Paid]):
        async def handle(self, event: Paid) -> None:
            heard.append(current_message().saga_id)

    @asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        yield
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, Hears)
    await run(storage, "a", "b", events=events)
    await EventRelay(storage, events=events, container=Scopes(scope), handler_timeout=600).deliver_due()
    assert heard == ["a", "b"]
    assert "the scope of a handler was not closed" in caplog.text


async def test_whatever_a_handler_raises_ends_no_relay() -> None:
    storage, heard = MemoryStorage(), list[str]()

    def handle(_: Paid) -> None:
        heard.append(current_message().saga_id)
        if heard[-1] == "a":
            raise Odd

    events = EventMap(publish=False).bind(Paid, handle)
    await run(storage, "a", "b", events=events)
    relay = EventRelay(storage, events=events)
    assert await relay.deliver_due() == 2
    assert heard == ["a", "b"]
    assert [letter.error for letter in await relay.dead_letters()] == ["Odd"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("destination", ["handler", "broker"])
def test_an_interrupt_ends_the_relay_and_is_no_failure_of_what_it_came_in(destination: str, backend: str) -> None:
    storage, broker = MemoryStorage(), Broker()
    broker.down = KeyboardInterrupt()

    async def handle(_: Paid) -> None:
        raise KeyboardInterrupt

    events = EventMap(publish=destination == "broker")
    if destination == "handler":
        events.bind(Paid, handle)
    relay = EventRelay(storage, events=events, publisher=broker)

    async def main() -> None:
        await run(storage, "a", events=events)
        await relay.deliver_due()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        anyio.run(main, backend=backend)
    lag = anyio.run(relay.lag, backend=backend)
    assert (lag.waiting, lag.dead) == (1, 0)


async def test_a_handler_that_fails_gets_its_event_again_and_no_other_handler_does() -> None:
    storage = MemoryStorage()
    done: list[str] = []

    def flaky(_: Paid) -> None:
        done.append("flaky")
        if done.count("flaky") < 3:
            raise RuntimeError("not yet")

    def steady(_: Paid) -> None:
        done.append("steady")

    events = EventMap(publish=False).bind(Paid, flaky, steady)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, retry=AT_ONCE)
    await relay.deliver_due()
    assert (done.count("flaky"), done.count("steady")) == (3, 1)
    assert await relay.dead_letters() == []


async def test_a_handler_that_hangs_is_stopped_and_counts_as_failed() -> None:
    storage = MemoryStorage()

    async def hangs(_: Paid) -> None:
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, hangs)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, handler_timeout=0.01, retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error == "TimeoutError"


@pytest.mark.parametrize(("limit", "concurrent", "most"), [(1, True, 1), (3, True, 3), (3, False, 1)])
async def test_so_many_handlers_run_at_once_as_the_limit_says(limit: int, *, concurrent: bool, most: int) -> None:
    storage = MemoryStorage()
    at_work = seen = done = 0
    all_done = anyio.Event()

    async def handle(_: Paid) -> None:
        nonlocal at_work, seen, done
        at_work += 1
        seen = max(seen, at_work)
        for _turn in range(5):
            await anyio.lowlevel.checkpoint()
        at_work -= 1
        done += 1
        if done == 12:
            all_done.set()

    async def other(event: Paid) -> None:
        await handle(event)

    events = EventMap(publish=False).bind(Paid, handle, other)
    await run(storage, *"abcdef", events=events)
    async with running(EventRelay(storage, events=events, max_concurrent=limit, concurrent=concurrent)):
        await all_done.wait()
    assert seen == most


async def test_as_many_plain_functions_run_at_once_as_the_limit_says() -> None:
    """None of them waits for a thread, which would use up its time."""
    storage, number = MemoryStorage(), 50
    all_there = threading.Barrier(number, timeout=60)
    events = EventMap(publish=False).bind(Paid, lambda _: all_there.wait())
    await run(storage, *(f"s{each}" for each in range(number)), events=events)
    relay = EventRelay(storage, events=events, max_concurrent=number)
    assert await relay.deliver_due() == number
    assert (await relay.lag()).waiting == 0


async def test_what_a_handler_says_of_a_secret_is_blotted_out(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()

    def fails(event: Charged) -> None:
        raise RuntimeError(f"{event.card} was refused")

    events = EventMap(publish=False).bind(Charged, fails)
    await run(storage, "a", step=Charge, events=events)
    relay = EventRelay(storage, events=events, retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error == "RuntimeError: *** was refused"
    assert "4711" not in caplog.text


async def test_an_event_of_a_name_that_is_bound_no_more_is_a_dead_letter_that_says_so() -> None:
    storage = MemoryStorage()
    await run(storage, "a", events=EventMap(publish=False).bind(Paid, Note, name="old"))
    relay = EventRelay(storage, events=EventMap().bind(Paid, Note, name="new"), retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error is not None
    assert "not bound to events of this name" in dead.error
