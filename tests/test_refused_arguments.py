"""What is given in a wrong place is refused there, in words of ours, and not where it would first be used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import define

from anysaga import (
    BlockingRunner,
    CircuitBreaker,
    ContainerFailed,
    DefinitionError,
    EventHandler,
    EventMap,
    Fallback,
    InvalidArgument,
    LoggingMiddleware,
    MemoryStorage,
    Middleware,
    NotDone,
    NotStorable,
    Retry,
    Saga,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaState,
    SagaWorker,
    Step,
    abandon,
    bootstrap,
    compensate,
    purge,
    recover,
    recover_saga,
    resolve,
    retry,
    run_saga,
    run_worker,
)
from anysaga.events import EventRelay


@define
class Order:
    order_id: str = "1"


class Look(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    steps = [Look]


class FollowedUp(EventHandler[Order]):
    async def handle(self, event: Order, /) -> None: ...

    @property
    def events(self) -> list[object]:
        return []


class Forgetful(EventHandler[Order]):
    """Whoever wrote it forgot `handle`."""


def bind(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


def mapped() -> SagaMap:
    sagas = SagaMap()
    bind(sagas)
    return sagas


class Misnamed(Middleware):
    """Written as those of others are: nothing here would ever call it."""

    async def __call__(self, request: object, handle: Callable[[object], Any]) -> Any:
        return await handle(request)


def yields() -> Iterator[Order]:
    yield Order()


async def yields_asynchronously() -> AsyncIterator[Order]:  # what is refused
    yield Order()


async def bind_later(sagas: object) -> None: ...


def worker(on_result: Any) -> SagaWorker:
    return SagaWorker([OrderSaga], storage=MemoryStorage(), on_result=on_result)


def strange(given: object) -> Any:
    """Anything, so that type checkers let it through, as they do in code without types."""
    return given


@pytest.mark.parametrize(
    ("give", "name", "words"),
    [
        (lambda: EventMap().bind(Order, Forgetful), "handler", "it does not define `handle`"),
        (lambda: EventMap().bind(Order, FollowedUp), "handler", "it has a property `events`"),
        (lambda: OrderSaga(container=strange({Order: 5})), "container", "give a function that makes a Order"),
        (lambda: OrderSaga(container={"Order": Order}), "container", "give the type itself"),
        (lambda: OrderSaga(middlewares=strange(LoggingMiddleware())), "middlewares", "give a list"),
        (lambda: SagaMediator(mapped(), middlewares=strange(LoggingMiddleware())), "middlewares", "give a list"),
        (lambda: SagaMediator(mapped(), on_startup=strange(print)), "on_startup", "give a list"),
        (lambda: SagaMediator(mapped(), publisher=strange("kafka:9092")), "publisher", "give a Publisher"),
        (lambda: EventRelay(MemoryStorage(), publisher=strange("kafka:9092")), "publisher", "give a Publisher"),
        (lambda: SagaMediator(mapped()).stream(strange(Order)), "context", "give an object of this class"),
        (lambda: SagaMediator(mapped()).stream(None, saga_id="x"), "context", "goes on by `resume(saga_id)`"),
        (lambda: SagaMediator(mapped(), events=strange({Order: print})), "events", "give an EventMap"),
        (lambda: EventRelay(MemoryStorage(), events=strange({Order: print})), "events", "give an EventMap"),
        (lambda: OrderSaga(middlewares=[Misnamed()]), "middlewares", "it overrides neither `saga` nor `step`"),
        (lambda: SagaMap().bind(strange("Order"), OrderSaga), "context_type", "give the class"),
        (lambda: SagaMap().bind(strange(Order()), OrderSaga), "context_type", "give the class"),
        (lambda: OrderSaga(container={Order: yields}), "container", "it has a `yield`"),
        (lambda: OrderSaga(container={Order: yields_asynchronously}), "container", "it has a `yield`"),
        (lambda: SagaCall("1", "OrderSaga", recovers=False).note(strange(5)), "text", "give a text"),
        (lambda: bootstrap({}, strange(mapped())), "sagas_mapper", "give a plain function"),
        (lambda: bootstrap({}, bind_later), "sagas_mapper", "give a plain function"),
        (lambda: bootstrap({}, bind, domain_events_mapper=strange(EventMap())), "domain_events_mapper", "give a plain"),
        (lambda: bootstrap({}, bind, domain_events_mapper=bind_later), "domain_events_mapper", "give a plain"),
        (lambda: OrderSaga(middlewares=strange(5)), "middlewares", "give a list"),
        (lambda: worker(bind_later), "on_result", "give a plain function"),
        (lambda: worker(5), "on_result", "give a plain function"),
        (lambda: Retry(on=strange(bind_later)), "on", "or a function of the error"),
        (lambda: run_saga(OrderSaga, Order(), backend="curio"), "backend", 'give "asyncio" or "trio"'),
        (lambda: run_worker([OrderSaga], storage=MemoryStorage(), backend=strange(5)), "backend", "give"),
        (lambda: run_worker([OrderSaga], storage=strange(None)), "storage", "give the Storage that has the sagas"),
        (lambda: BlockingRunner(backend="uvloop"), "backend", 'give "asyncio" or "trio"'),
    ],
    ids=[str(number) for number in range(1, 32)],
)
def test_it_is_refused_where_it_is_given(give: Callable[[], object], name: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        give()
    assert (caught.value.name, words in caught.value.expected) == (name, True)


def other_saga(**options: Any) -> Saga[Order]:
    return Saga[Order](name="OrderSaga", steps=[Look], **options)


@pytest.mark.anyio
async def test_two_sagas_of_one_name_and_version_are_refused_wherever_a_stored_one_must_be_told() -> None:
    """All that are stored would go to the first."""
    sagas: list[Any] = [OrderSaga, OrderSaga(), other_saga()]
    with pytest.raises(InvalidArgument, match="version 1: give each its own name or version"):
        SagaWorker(sagas, storage=MemoryStorage())
    with pytest.raises(InvalidArgument, match="name='OrderSaga'"):
        await recover(sagas, storage=MemoryStorage())
    assert await recover([*sagas[:2], other_saga(version=2)], storage=MemoryStorage()) == []


@pytest.mark.anyio
@pytest.mark.parametrize("storage", ["sqlite:///orders.db", None, MemoryStorage])
async def test_operations_take_a_storage(storage: Any) -> None:
    for operation in (
        resolve("x", "Look", "done", storage=storage),
        retry("x", storage=storage),
        compensate("x", storage=storage),
        abandon("x", storage=storage, reason="lost"),
        purge(timedelta(days=1), storage=storage),
    ):
        with pytest.raises(InvalidArgument, match="give the Storage"):
            await operation


@pytest.mark.anyio
async def test_recovery_without_a_storage_is_refused() -> None:
    """The one in memory that a saga has without one is new, and nothing would ever be found there."""
    nothing = strange(None)
    with pytest.raises(InvalidArgument, match="give the Storage that has the sagas"):
        await recover_saga(OrderSaga, "x")
    with pytest.raises(InvalidArgument, match="give the Storage that has the sagas"):
        await recover([OrderSaga], storage=nothing)
    with pytest.raises(InvalidArgument, match="give the Storage that has the sagas"):
        SagaWorker([OrderSaga], storage=nothing)
    saga = OrderSaga()
    await saga.run(Order(), saga_id="x")
    assert (await recover_saga(saga, "x")).state is SagaState.COMPLETED


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{}, {"saga_id": "x"}], ids=["new", "named"])
@pytest.mark.parametrize("method", ["transaction", "run"])
async def test_a_method_of_a_class_says_to_make_the_saga(method: str, options: dict[str, str]) -> None:
    """The context stands in the place of the saga then, and would be called missing, or lack what a saga has."""
    with pytest.raises(InvalidArgument, match=rf"saga=Order.*: make the saga first: `OrderSaga\(...\)\.{method}\("):
        await getattr(OrderSaga, method)(Order(), **options)


@pytest.mark.anyio
@pytest.mark.parametrize("states", [["OVER"], SagaState.COMPLETED], ids=["unknown", "one"])
async def test_purge_takes_states(states: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a list of states"):
        await purge(timedelta(days=1), states, storage=MemoryStorage())


@pytest.mark.anyio
async def test_a_parameter_without_a_type_is_named() -> None:
    """Of a step whose constructor has no annotation no container could know what it wants."""

    class Untyped(Step[Order]):
        read_only = True

        def __init__(self, warehouse, shelf="4") -> None:  # type: ignore[no-untyped-def]  # what is refused
            self.warehouse = warehouse

        async def act(self, order: Order) -> None: ...

    saga = Saga[Order](name="order", steps=[Untyped])
    with pytest.raises(ContainerFailed, match=r"'Untyped'.*Untyped\(warehouse\) says no type: annotate it"):
        await saga.run(Order())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("declared", "answer", "words"),
    [
        (None, "shelf 4", r"found str: say what it answers, as in `Step\[Order, str\]`"),
        (None, NotDone("no shelf"), "found NotDone: raise NotDone"),
        (str, None, "found NoneType: have `act`, and each middleware around it, return the answer"),
        (Order, Order, "found the class Order itself"),
    ],
)
async def test_an_answer_of_another_kind_is_told_what_to_do(declared: Any, answer: object, words: str) -> None:
    class Reserve(Step[Order, declared]):
        async def act(self, order: Order) -> object:
            return answer

        async def compensate(self, order: Order) -> None: ...

    with pytest.raises(NotStorable, match=rf"step 'Reserve' .*{words}"):
        await Saga[Order](name="order", steps=[Reserve]).run(Order())


@pytest.mark.anyio
async def test_a_result_is_looked_up_by_class_alone() -> None:
    """Anything else is not there, whatever it is."""
    result = await OrderSaga().run(Order())
    for key in ("Look", Look()):
        with pytest.raises(KeyError):
            result[strange(key)]


def test_a_breaker_is_made() -> None:
    """Its class has the method too, but nobody to call it on."""
    with pytest.raises(DefinitionError, match=r"is no breaker: give a CircuitBreaker\(\.\.\.\)"):
        Saga[Order](name="order", steps=[Fallback(Look, Reserve, circuit_breaker=strange(CircuitBreaker))])


class Reserve(Look):
    """A second step."""


@pytest.mark.parametrize("name", ["storage", "container"])
def test_a_class_of_sagas_has_no_storage(name: str) -> None:
    """It would be passed over without a word, and the sagas kept in memory."""
    with pytest.raises(DefinitionError, match=rf"a class has no `{name}`: .* `Forgetting\({name}=...\)`"):
        type("Forgetting", (OrderSaga,), {name: MemoryStorage()})


@pytest.mark.anyio
async def test_a_saga_that_was_not_initialised_says_so() -> None:
    class Own(OrderSaga):
        def __init__(self, number: int) -> None:
            self.number = number

    with pytest.raises(DefinitionError, match=r"have it call `super\(\).__init__"):
        await Own(1).run(Order())


def test_a_runner_calls_functions() -> None:
    """A coroutine was made in another place than where it is to be awaited."""

    async def answer() -> int:
        return 1

    made = answer()
    with BlockingRunner() as runner:
        with pytest.raises(InvalidArgument, match="give a function that makes what is awaited"):
            runner.call(strange(made))
        assert runner.call(answer) == 1
    made.close()


@pytest.mark.anyio
async def test_reasons_and_notes_are_texts() -> None:
    storage = MemoryStorage()
    for operation in (
        resolve("x", "Look", "done", storage=storage, note=strange(5)),
        retry("x", storage=storage, note=strange(None)),
        compensate("x", storage=storage, note=strange(5)),
        abandon("x", storage=storage, reason=strange(None)),
    ):
        with pytest.raises(InvalidArgument, match="give a text"):
            await operation
    async with OrderSaga(storage=storage).transaction(Order()) as transaction:
        with pytest.raises(InvalidArgument, match="reason=5 cannot work: give a text"):
            await transaction.abort(strange(5))
        await transaction.abort()
