"""Which saga is meant by which context, and what cannot be bound."""

from __future__ import annotations

from typing import Generic, TypeVar

import pytest
from attrs import define
from journeys import Journey, Leg, saga_of

from anysaga import (
    ContextAlreadyMapped,
    ContextNotMapped,
    InvalidArgument,
    Saga,
    SagaMap,
    SagaMediator,
    SagaMismatch,
    SagaOfOtherContext,
    Step,
)
from anysaga.abc import SagaState, SagaSummary

T = TypeVar("T")


@define
class Order:
    number: int = 1


@define
class RushOrder(Order):
    pass


class Look(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    steps = (Look,)


def test_a_context_finds_the_saga_of_its_type(did: list[str]) -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    journey = saga_of(None, Leg("a", did))
    sagas.bind(Journey, journey)
    assert isinstance(sagas.of(Order()), OrderSaga)
    assert sagas.of(Journey()) is journey
    assert [saga.definition.name for saga in sagas] == ["OrderSaga", "journey"]


def test_a_saga_of_the_name_and_version_of_another_one_is_refused() -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    with pytest.raises(InvalidArgument, match=r"'OrderSaga'.*version 1"):
        sagas.bind(RushOrder, Saga[RushOrder](name="OrderSaga", steps=[Look]))
    sagas.bind(RushOrder, Saga[RushOrder](name="OrderSaga", steps=[Look], version=2))


def test_a_context_without_a_saga_is_refused_with_those_that_have_one() -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    with pytest.raises(ContextNotMapped) as caught:
        sagas.of(Journey())
    assert (caught.value.context, caught.value.known) == ("Journey", ("Order",))


def test_a_class_of_contexts_is_no_context() -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    with pytest.raises(InvalidArgument, match="an object of this class"):
        sagas.of(Order)


def test_a_subclass_of_a_context_needs_a_saga_of_its_own() -> None:
    """Else its own fields would be lost in the store."""
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    with pytest.raises(ContextNotMapped):
        sagas.of(RushOrder())


def test_a_context_type_is_bound_once() -> None:
    sagas = SagaMap()
    sagas.bind(Order, OrderSaga)
    with pytest.raises(ContextAlreadyMapped):
        sagas.bind(Order, Saga[Order](name="other", steps=[Look]))
    assert isinstance(sagas.of(Order()), OrderSaga)


@define
class Box(Generic[T]):
    inside: T


class Open(Step[Box[int]]):
    read_only = True

    async def act(self, box: Box[int]) -> None: ...


@pytest.mark.parametrize("context_type", [Box[int], Box], ids=["with its arguments", "bare"])
def test_a_generic_context_is_found_by_its_class(context_type: type[Box[int]]) -> None:
    """An object does not know the arguments that its class was given."""
    sagas = SagaMap()
    boxes = Saga[Box[int]](name="boxes", steps=[Open])
    sagas.bind(context_type, boxes)
    assert sagas.of(Box(1)) is boxes
    with pytest.raises(ContextAlreadyMapped):
        sagas.bind(Box[int], Saga[Box[int]](name="others", steps=[Open]))


def test_a_generic_context_of_other_arguments_is_refused() -> None:
    with pytest.raises(SagaOfOtherContext):
        SagaMap().bind(Box[str], Saga[Box[int]](name="boxes", steps=[Open]))  # type: ignore[misc]


def test_a_saga_of_another_context_is_refused() -> None:
    with pytest.raises(SagaOfOtherContext) as caught:
        SagaMap().bind(Journey, OrderSaga)  # type: ignore[misc]
    assert (caught.value.context, caught.value.expected) == ("Journey", "Order")


def test_what_is_no_saga_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        SagaMap().bind(Order, Look)  # type: ignore[arg-type]


def test_a_stored_saga_is_found_by_name_and_by_version_where_there_are_several() -> None:
    sagas = SagaMap()
    sagas.bind(Order, Saga[Order](name="order", steps=[Look]))
    sagas.bind(RushOrder, Saga[RushOrder](name="order", version=2, steps=[Look]))

    def stored(name: str, version: int) -> SagaSummary:
        return SagaSummary("o", name, version, SagaState.RUNNING, 1, 1, None, 1, 0, 0, 0)

    assert sagas.stored(stored("order", 1)).version == 1
    assert sagas.stored(stored("order", 2)).version == 2
    assert sagas.stored(stored("order", 3)).version == 2
    with pytest.raises(SagaMismatch, match="the map has 'order'"):
        sagas.stored(stored("refund", 1))


def test_a_mediator_needs_a_map_with_a_saga() -> None:
    with pytest.raises(InvalidArgument):
        SagaMediator(SagaMap())
