"""What a user may write, and what its types are. Nothing here runs: mypy and pyright read it.

What is wrong is marked as such; both report a mark that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, assert_type

from attrs import define

import anysaga
import anysaga.events.publishers
from anysaga import (
    CircuitBreaker,
    EventHandler,
    EventMap,
    Fallback,
    Outcome,
    Parallel,
    Retry,
    Saga,
    SagaMap,
    SagaMediator,
    SagaResult,
    SagaStream,
    SagaTransaction,
    Step,
    StepResult,
    bootstrap,
    current_step,
)
from anysaga.abc import Breaker, Message, Storage
from anysaga.events import EventRelay, current_message


@define
class Order:
    order_id: str


@define
class RushOrder(Order):
    minutes: int


@define
class Refund:
    amount: int


@define
class Reservation:
    id: str


class HasOrderId(Protocol):
    order_id: str


class Bank:
    def charge(self, order_id: str) -> str:
        return order_id


class Reserve(Step[Order, Reservation]):
    """Async, with another name for the argument, and with a constructor."""

    timeout = 5.0
    retry = Retry(attempts=3)
    not_done_on = (ConnectionError,)

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def act(self, order: Order) -> Reservation:
        return Reservation(self.bank.charge(order.order_id))

    async def compensate(self, order: Order) -> None:
        """Release it."""

    async def probe(self, order: Order) -> Outcome:
        return Outcome.UNKNOWN


class Charge(Step[Order, int]):
    """Plain."""

    pivot = True
    retry = None

    def act(self, the_order: Order) -> int:
        return len(the_order.order_id)

    def probe(self, the_order: Order) -> Outcome:
        return Outcome.DONE


class Notify(Step[Order]):
    """No response, async to act and plain to undo."""

    async def act(self, order: Order) -> None:
        """Send it."""

    def compensate(self, order: Order) -> None:
        """Send another."""


class Audit(Step[HasOrderId, str]):
    """For whatever has an order id."""

    read_only = True

    def act(self, anything: HasOrderId) -> str:
        return anything.order_id


class Forward(Step[Order, int]):
    """Returns what it was given to await."""

    read_only = True

    def act(self, order: Order, /) -> Awaitable[int]:
        raise NotImplementedError


class OrderSaga(Saga[Order]):
    version = 2
    timeout = 60.0
    compensate_retry = Retry(attempts=5)
    on_undo_failure = "continue"
    steps = [Reserve, Notify(), Audit, Charge]


class InTuple(Saga[Order]):
    steps = (Reserve, Notify())


class WithBranches(Saga[Order]):
    steps = [
        Fallback(Reserve, Notify(), failure_exceptions=(OSError, TimeoutError), circuit_breaker=CircuitBreaker(2)),
        Parallel(Audit, Fallback(Notify, Parallel(Reserve, Notify(), limit=1)), limit=2),
        Charge,
    ]


breaker: Breaker = CircuitBreaker(fail_max=2, reset_timeout=60, exclude=(OSError, lambda error: "busy" in str(error)))
on_the_spot = Saga[Order](name="order", steps=[Reserve, Notify()], on_undo_failure="park")
assert_type(on_the_spot, Saga[Order])
assert_type(OrderSaga(container={Bank: Bank}, timeout=1.0), OrderSaga)


async def use(order: Order) -> None:
    result = await OrderSaga(container={Bank: Bank}).run(order, saga_id="order-17")
    assert_type(result, SagaResult[Order])
    assert_type(result.context, Order)
    assert_type(result[Reserve], StepResult[Reservation])
    assert_type(result[Reserve].response, Reservation)
    assert_type(result[Charge].response, int)
    assert_type(result[Notify].response, None)
    assert_type(result[Audit].response, str)
    assert_type(result[Forward].response, int)


async def watch(order: Order) -> None:
    async with on_the_spot.transaction(order) as transaction:
        assert_type(transaction, SagaTransaction[Order])
        assert_type(transaction.context, Order)
        async for step in transaction:
            assert_type(step.step_name, str)
            assert_type(step.attempts, int)
    assert_type(transaction.result, SagaResult[Order])


async def resume() -> None:
    assert_type(await OrderSaga().run(saga_id="order-17"), SagaResult[Order])


def steps_fit_where_less_is_wanted(
    reserve: Step[Order, Reservation],
) -> tuple[Step[RushOrder, Reservation], Step[Order, object]]:
    """A step of a base context serves a derived one, and its response may be looked at as something wider."""
    return reserve, reserve


async def use_a_mediator(order: Order) -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    sagas.bind(Order, OrderSaga())
    mediator = SagaMediator(sagas, on_startup=[lambda: None, prepare])
    assert_type(await mediator.run(order), SagaResult[Order])
    assert_type(mediator.stream(order), SagaStream[Order])
    assert_type([step async for step in mediator.stream(order, saga_id="o")], list[StepResult[Any]])
    assert_type(await mediator.submit(order), str)
    assert_type(await mediator.resume("o"), SagaResult[Any])
    assert_type(mediator.stream(order).result.context, Order)
    assert_type(bootstrap(di_container={Bank: Bank}, sagas_mapper=bind_sagas), SagaMediator)


async def prepare() -> None:
    """Get ready."""


def bind_sagas(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


# What is wrong


def use_misspelt_names() -> list[object]:
    return [
        anysaga.SagaWroker,  # type: ignore[attr-defined]
        anysaga.events.publishers.KafkaPublischer,  # type: ignore[attr-defined]
    ]


class WrongResponse(Step[Order, Reservation]):
    async def act(self, order: Order) -> int:  # type: ignore[override]
        return 1


class WrongContext(Step[Order]):
    read_only = True

    def act(self, order: Refund) -> None:  # type: ignore[override]
        """Take it back."""


class WrongProbe(Step[Order]):
    pivot = True

    def act(self, order: Order) -> None:
        """Do it."""

    def probe(self, order: Order) -> bool:  # type: ignore[override]
        return True


class WrongAttribute(Step[Order]):
    timeout = "5 seconds"  # type: ignore[assignment]


class WrongPolicy(Saga[Order]):
    on_undo_failure = "ignore"  # type: ignore[assignment]
    steps = [Reserve]


class WrongSteps(Saga[Order]):
    steps = [Reserve, "Notify"]  # type: ignore[list-item]


bootstrap({}, OrderSaga)  # type: ignore[arg-type]
Fallback(Reserve)  # type: ignore[call-arg]
Fallback(Reserve, "Notify")  # type: ignore[arg-type]
Fallback(Reserve, Notify, circuit_breaker=5)  # type: ignore[arg-type]
Parallel(Reserve, "Notify")  # type: ignore[arg-type]
Parallel(Reserve, limit="2")  # type: ignore[arg-type]


async def use_wrongly(order: Order, refund: Refund) -> str:
    await OrderSaga().run(refund)  # type: ignore[arg-type]
    await OrderSaga().run(order, saga_id=17)  # type: ignore[arg-type]
    OrderSaga(storage="sqlite:///orders.db")  # type: ignore[arg-type]
    result = await OrderSaga().run(order)
    result["Reserve"]  # type: ignore[index]
    return result[Reserve].response  # type: ignore[return-value]


def steps_do_not_fit_where_more_is_wanted(narrow: Step[RushOrder]) -> Step[Order]:
    return narrow  # type: ignore[return-value]


@define
class Paid:
    amount: int


class SendReceipt(EventHandler[Paid]):
    async def handle(self, event: Paid) -> None:
        assert_type(current_message(), Message)
        current_step().record(event, publish="at_end")


class SendRefund(EventHandler[Refund]):
    def handle(self, event: Refund) -> None:
        assert_type(event.amount, int)


def on_paid(event: Paid) -> None:
    assert_type(event.amount, int)


def bind_events(events: EventMap) -> None:
    events.bind(Paid, SendReceipt, on_paid, name="order.paid").bind(Refund, SendRefund, publish=False)
    events.bind(Paid, SendRefund)  # type: ignore[arg-type]  # a handler of other events
    events.bind(Refund, on_paid)  # type: ignore[arg-type]  # the same


async def relay_events(storage: Storage, events: EventMap) -> None:
    relay = EventRelay(storage, events=events, container={Bank: Bank}, max_concurrent=4)
    assert_type(await relay.deliver_due(), int)
    for dead in await relay.dead_letters():
        assert_type(await relay.send_again(dead), bool)
    assert_type((await relay.lag()).oldest, float)
