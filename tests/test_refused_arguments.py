"""What is given in a wrong place is refused there, in words of ours, and not where it would first be used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import define

from anysaga import (
    BlockingRunner,
    ContainerFailed,
    EventHandler,
    EventMap,
    InvalidArgument,
    LoggingMiddleware,
    MemoryStorage,
    NotStorable,
    Retry,
    Saga,
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


class Forgetful(EventHandler[Order]):
    """Whoever wrote it forgot `handle`."""


def bind(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


def mapped() -> SagaMap:
    sagas = SagaMap()
    bind(sagas)
    return sagas


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
        (lambda: OrderSaga(container=strange({"bank": 5})), "container", "give a function that makes a bank"),
        (lambda: OrderSaga(middlewares=strange(LoggingMiddleware())), "middlewares", "give a list"),
        (lambda: SagaMediator(mapped(), middlewares=strange(LoggingMiddleware())), "middlewares", "give a list"),
        (lambda: SagaMediator(mapped(), on_startup=strange(print)), "on_startup", "give a list"),
        (lambda: SagaMediator(mapped(), publisher=strange("kafka:9092")), "publisher", "give a Publisher"),
        (lambda: EventRelay(MemoryStorage(), publisher=strange("kafka:9092")), "publisher", "give a Publisher"),
        (lambda: SagaMediator(mapped()).stream(strange(Order)), "context", "give an object of this class"),
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
        (lambda: BlockingRunner(backend="uvloop"), "backend", 'give "asyncio" or "trio"'),
    ],
    ids=[str(number) for number in range(1, 20)],
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
@pytest.mark.parametrize("states", [["COMPLETED"], SagaState.COMPLETED], ids=["texts", "one"])
async def test_purge_takes_states(states: Any) -> None:
    with pytest.raises(InvalidArgument, match="give members of SagaState"):
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
async def test_an_answer_that_was_not_declared_is_told_how_to_be() -> None:
    class Reserve(Step[Order]):
        async def act(self, order: Order) -> str:  # type: ignore[override]  # the response is forgotten above
            return "shelf 4"

        async def compensate(self, order: Order) -> None: ...

    with pytest.raises(NotStorable, match=r"step 'Reserve' .*: say what it answers, as in `Step\[Order, str\]`"):
        await Saga[Order](name="order", steps=[Reserve]).run(Order())


@pytest.mark.anyio
async def test_a_result_is_looked_up_by_class_alone() -> None:
    """Anything else is not there, whatever it is."""
    result = await OrderSaga().run(Order())
    for key in ("Look", Look()):
        with pytest.raises(KeyError):
            result[strange(key)]
