"""A container's scope goes wrong: what is told of it, and that it hides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from attrs import define

from anysaga import (
    ContainerFailed,
    InvalidArgument,
    Middleware,
    NextSaga,
    NextStep,
    NotDone,
    NotProvided,
    Saga,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaResult,
    SagaState,
    Step,
    StepCall,
    StrayCancellation,
    recover_saga,
)
from anysaga._saga_scope import SagaScope
from anysaga._wiring import MappingContainer

pytestmark = pytest.mark.anyio


@define
class Order:
    declined: bool = False


class Charge(Step[Order]):
    async def act(self, order: Order) -> None:
        if order.declined:
            raise NotDone("declined")

    async def compensate(self, order: Order) -> None: ...


class ChargeSaga(Saga[Order]):
    name = "charge"
    steps = (Charge,)


@define
class Faulty:
    """A container whose scope raises when it opens, raises when it closes, or never ends closing."""

    opening: BaseException | None = None
    closing: BaseException | None = None
    hangs: bool = False
    closed: bool = False

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Any]:
        if self.opening is not None:
            raise self.opening
        try:
            async with MappingContainer({}).scope() as scope:
                yield scope
        finally:
            await self._close()

    async def _close(self) -> None:
        if self.closing is not None:
            raise self.closing
        if self.hangs:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        self.closed = True


async def test_a_scope_that_does_not_open() -> None:
    """The error names the saga, and has the container's own as its cause."""
    cause = ConnectionError("no answer")
    with pytest.raises(ContainerFailed, match=r"saga 'charge' \(c-1\).*open a scope: ConnectionError: no") as caught:
        await ChargeSaga(container=Faulty(opening=cause)).run(Order(), saga_id="c-1")
    assert caught.value.__cause__ is cause


async def test_a_scope_is_open_for_steps_that_are_made_already_too() -> None:
    """It may hold more than what makes steps: a log's context, say, or a transaction."""
    faulty = Faulty()
    await Saga[Order](name="charge", steps=[Charge()], container=faulty).run(Order())
    assert faulty.closed


async def test_errors_of_ours_stay_as_they_are() -> None:
    """What says already what to do is not wrapped."""
    with pytest.raises(InvalidArgument):
        await ChargeSaga(container=Faulty(opening=InvalidArgument("a", 1, "b"))).run(Order())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_that_a_container_awaits_is_a_failure_of_it(anyio_backend: str) -> None:
    """As any other: the error names the saga, and nobody takes it for a cancellation of their own."""

    class Careless(Faulty):
        @asynccontextmanager
        async def scope(self) -> AsyncIterator[Any]:
            await connect()
            yield

    async def connect() -> Charge:
        connecting = asyncio.ensure_future(anyio.sleep_forever())
        connecting.cancel()
        await connecting
        raise AssertionError

    for container, doing in (Careless(), "open a scope"), ({Charge: connect}, "make the step 'Charge'"):
        with pytest.raises(ContainerFailed, match=rf"\(c-1\).*could not {doing}: StrayCancellation") as caught:
            await ChargeSaga(container=container).run(Order(), saga_id="c-1")
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)


class Panic(BaseException):
    """What extension modules raise."""


async def test_a_scope_that_panics_does_not_open() -> None:
    panic = Panic()
    with pytest.raises(ContainerFailed, match="open a scope: Panic") as caught:
        await ChargeSaga(container=Faulty(opening=panic)).run(Order())
    assert caught.value.__cause__ is panic


@pytest.mark.parametrize(
    "faulty",
    [Faulty(closing=OSError("dead")), Faulty(closing=Panic()), Faulty(hangs=True)],
    ids=["raises", "panics", "hangs"],
)
async def test_a_scope_that_does_not_close(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    """The result is there, and the log names the saga. Closing does not go on for ever."""
    with anyio.fail_after(10):
        grace = 0.01 if faulty.hangs else 10.0
        result = await ChargeSaga(container=faulty, grace=grace).run(Order(), saga_id="c-1")
    assert result.state is SagaState.COMPLETED
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("anysaga.containers", "ERROR")
    assert "saga 'charge' (c-1): its container could not close its scope" in record.getMessage()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_that_a_scope_awaits_when_it_closes_cancels_nobody(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Faulty):
        async def _close(self) -> None:
            heartbeat = asyncio.ensure_future(anyio.sleep_forever())
            heartbeat.cancel()
            await heartbeat

    result = await ChargeSaga(container=Careless()).run(Order())
    assert result.state is SagaState.COMPLETED
    assert "could not close its scope: StrayCancellation" in caplog.text


async def test_middlewares_see_the_end_of_a_saga_whose_scope_asks_to_end_when_it_closes() -> None:
    ends: list[SagaState] = []

    class Sees(Middleware):
        async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
            result = await call_next()
            ends.append(result.state)
            return result

    with pytest.raises(SystemExit):
        await ChargeSaga(container=Faulty(closing=SystemExit()), middlewares=[Sees()]).run(Order())
    assert ends == [SagaState.COMPLETED]


async def test_a_scope_that_does_not_close_notes_it() -> None:
    """The saga's own error leaves, with a note."""
    with pytest.raises(NotDone) as caught:
        await ChargeSaga(container=Faulty(closing=OSError("dead"))).run(Order(declined=True))
    assert any("could not close its scope: OSError: dead" in note for note in caught.value.__notes__)


async def test_the_error_that_passes_through_a_scope_is_no_failure_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """A scope that lets the saga's error through has closed well."""
    faulty = Faulty()
    with pytest.raises(NotDone) as caught:
        await ChargeSaga(container=faulty).run(Order(declined=True))
    assert faulty.closed
    assert caplog.records == []
    assert not any("scope" in note for note in caught.value.__notes__)


class Passing(AbstractAsyncContextManager[Any]):
    """A container and its scope in one, which raises again whatever passes through it."""

    def scope(self) -> Passing:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            raise error

    async def get(self, wanted: Any) -> Any:
        raise NotProvided(wanted.__qualname__, "somebody")


async def test_a_scope_may_raise_the_error_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is the saga's error still, and no failure to close."""
    with pytest.raises(NotDone) as caught:
        await ChargeSaga(container=Passing()).run(Order(declined=True))
    assert caplog.records == []
    assert not any("scope" in note for note in caught.value.__notes__)


async def test_a_cancelled_caller_still_closes() -> None:
    """Closing waits for something, and a caller who was cancelled waits for it."""
    faulty = Faulty()
    with anyio.CancelScope() as scope:
        async with ChargeSaga(container=faulty).transaction(Order()):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert faulty.closed


@define
class Watchful:
    """A container whose scope has a task of its own, as clients with a connection to keep up do."""

    lost: anyio.Event | None = None
    closed: int = 0

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Any]:
        async with MappingContainer({}).scope() as scope, anyio.create_task_group() as group:
            group.start_soon(self._watch)
            try:
                yield scope
                await anyio.lowlevel.checkpoint()
            finally:
                group.cancel_scope.cancel()
                self.closed += 1

    async def _watch(self) -> None:
        await (self.lost or anyio.Event()).wait()
        raise ConnectionError("the line is dead")


async def _run(saga: ChargeSaga, order: Order) -> SagaState:
    return (await saga.run(order)).state


async def _mediate(saga: ChargeSaga, order: Order) -> SagaState:
    sagas = SagaMap()
    sagas.bind(Order, saga)
    async with SagaMediator(sagas, storage=saga.storage) as mediator:
        return (await mediator.run(order)).state


async def _mediate_in_the_own_task(saga: ChargeSaga, order: Order) -> SagaState:
    sagas = SagaMap()
    sagas.bind(Order, saga)
    return (await SagaMediator(sagas, storage=saga.storage).run(order)).state


async def _recover(saga: ChargeSaga, order: Order) -> SagaState:
    await saga.submit(order, saga_id="c-1")
    return (await recover_saga(saga, "c-1")).state


WAYS = [_run, _mediate, _mediate_in_the_own_task, _recover]


@pytest.mark.parametrize("way", WAYS)
async def test_a_scope_may_hold_a_task_group_open(way: Any, caplog: pytest.LogCaptureFixture) -> None:
    """All of a saga that is run happens inside of it, and it is left before what was entered before it."""
    watchful = Watchful()
    with anyio.fail_after(10):
        assert await way(ChargeSaga(container=watchful), Order()) is SagaState.COMPLETED
    assert watchful.closed == 1
    assert caplog.records == []


async def test_an_error_that_a_task_group_of_the_scope_wraps_is_no_failure_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(NotDone) as caught:
        await ChargeSaga(container=Watchful()).run(Order(declined=True))
    assert caplog.records == []
    assert not any("scope" in note for note in caught.value.__notes__)


async def test_a_cancelled_caller_closes_a_scope_with_a_task_group() -> None:
    began, watchful = anyio.Event(), Watchful()

    class Wait(Charge):
        async def act(self, order: Order) -> None:
            began.set()
            await anyio.sleep_forever()

    saga = Saga[Order](name="wait", steps=[Wait], container=watchful)
    async with anyio.create_task_group() as group:
        group.start_soon(saga.run, Order())
        await began.wait()
        group.cancel_scope.cancel()
    assert watchful.closed == 1


@pytest.mark.parametrize("way", [_run, _mediate, _mediate_in_the_own_task])
async def test_a_scope_whose_task_fails_cancels_the_saga_and_not_the_caller(way: Any) -> None:
    """The saga goes back as after any cancellation; who called it is told that it was none of theirs."""
    lost = anyio.Event()

    class Wait(Charge):
        async def act(self, order: Order) -> None:
            lost.set()
            await anyio.sleep_forever()

    class WaitSaga(Saga[Order]):
        steps = (Wait,)

    with anyio.fail_after(10), pytest.raises(StrayCancellation, match="WaitSaga"):
        await way(WaitSaga(container=Watchful(lost)), Order())


class Around(Middleware):
    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        return await call_next()


async def test_what_stands_around_ready_steps_is_made_once_for_the_same_middlewares() -> None:
    saga = Saga[Order](name="ready", steps=[Charge()])
    first, second = (Around(),), (Around(),)

    async def steps(middlewares: tuple[Middleware, ...]) -> object:
        return await SagaScope(saga.definition, saga.container, "id", middlewares).steps()

    made = await steps(first)
    assert await steps(first) is made
    assert await steps(second) is not made
