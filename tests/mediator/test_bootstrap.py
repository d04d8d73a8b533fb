"""A mediator from one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define
from di import Container, bind_by_type
from di.dependent import Dependent
from journeys import Journey, Leg, saga_of

from anysaga import (
    EventMap,
    InvalidArgument,
    MemoryStorage,
    Middleware,
    NextStep,
    Saga,
    SagaMap,
    SagaMediator,
    SagaState,
    Step,
    StepCall,
    bootstrap,
)
from anysaga.abc import Message, Publisher, Storage

pytestmark = pytest.mark.anyio


class Bank:
    async def pay(self, journey: Journey) -> None:
        journey.stops.append("paid")


class Pay(Step[Journey]):
    pivot = True

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def act(self, journey: Journey) -> None:
        await self.bank.pay(journey)


@define
class Paid:
    euros: int


class JourneySaga(Saga[Journey]):
    steps = (Pay,)


def bind(sagas: SagaMap) -> None:
    sagas.bind(Journey, JourneySaga)


async def test_a_raw_container_a_map_and_a_storage_make_a_mediator(storage: Storage) -> None:
    container = Container()
    container.bind(bind_by_type(Dependent(Bank, scope="request"), Bank))
    mediator = bootstrap(di_container=container, sagas_mapper=bind, saga_storage=storage)
    assert [step.step_type async for step in mediator.stream(Journey(), saga_id="j")] == [Pay]
    assert (await storage.load("j")).summary.state is SagaState.COMPLETED


async def test_without_a_storage_sagas_are_kept_in_memory() -> None:
    mediator = bootstrap({Bank: Bank}, bind)
    journey = Journey()
    await mediator.run(journey, saga_id="j")
    assert journey.stops == ["paid"]
    assert (await mediator.storage.load("j")).summary.state is SagaState.COMPLETED


async def test_what_happens_at_startup_happens_before_the_first_saga(did: list[str]) -> None:
    saga = saga_of(None, Leg("a", did))
    mediator = bootstrap(None, lambda sagas: sagas.bind(Journey, saga), on_startup=[lambda: did.append("started")])
    assert did == []
    async with mediator:
        await mediator.run(Journey())
    assert did == ["started", "act a"]


def test_a_mapper_that_binds_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        bootstrap(None, lambda sagas: None)


async def test_all_nine_parameters_reach_the_mediator(did: list[str]) -> None:
    """And the events map is that of the sagas, so that what they record is called, and goes, as it says."""

    class Broker(Publisher):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            return [None for _ in messages]

    class Told(Middleware):
        async def step(self, call: StepCall, call_next: NextStep) -> Any:
            did.append(f"before {call.step}")
            return await call_next()

    def bind_events(events: EventMap) -> None:
        events.bind(Paid, lambda _: None, name="journey.paid", publish=False)

    broker = Broker()
    mediator = bootstrap(
        di_container={Bank: Bank},
        sagas_mapper=bind,
        saga_storage=MemoryStorage(),
        domain_events_mapper=bind_events,
        message_broker=broker,
        middlewares=[Told()],
        on_startup=[lambda: did.append("started")],
        max_concurrent_event_handlers=3,
        concurrent_event_handle_enable=False,
    )
    await mediator.run(Journey())
    assert did == ["started", "before Pay"]
    (saga,) = mediator.sagas
    assert saga.definition.events.binding_of(Paid).name == "journey.paid"
    assert len(saga.definition.events.binding_of(Paid).destinations) == 1


async def test_without_a_broker_events_go_to_their_handlers_only() -> None:
    """Else they would lie in the outbox for one that never comes."""
    mediator = bootstrap(None, bind, domain_events_mapper=lambda events: events.bind(Paid, lambda _: None, name="paid"))
    (saga,) = mediator.sagas
    assert len(saga.definition.events.binding_of(Paid).destinations) == 1


async def test_a_saga_keeps_the_events_map_of_its_own(did: list[str]) -> None:
    own = EventMap()
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did), events=own))
    (saga,) = SagaMediator(sagas, events=EventMap()).sagas
    assert saga.definition.events is own
