"""A mediator from one call."""

from __future__ import annotations

import pytest
from di import Container, bind_by_type
from di.dependent import Dependent
from journeys import Journey, Leg, saga_of

from anysaga import InvalidArgument, Saga, SagaMap, SagaState, Step, bootstrap
from anysaga.abc import Storage

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
