"""From where a saga knows the type of its context."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from attrs import define

from anysaga import DefinitionError, Saga, Step


class HasOrderId(Protocol):
    order_id: str


@define
class Request:
    order_id: str = "1"


@define
class Order(Request):
    shelf: str = ""


class Look(Step[Any]):
    read_only = True

    async def act(self, context: object) -> None: ...


class LookAtId(Step[HasOrderId]):
    read_only = True

    async def act(self, order: HasOrderId) -> None: ...


class LookAtRequest(Step[Request]):
    read_only = True

    async def act(self, request: Request) -> None: ...


class Reserve(Step[Order]):
    async def act(self, order: Order) -> None: ...

    async def compensate(self, order: Order) -> None: ...


@pytest.mark.parametrize("step", [Look, LookAtId, LookAtRequest])
def test_a_saga_made_on_the_spot_takes_the_steps_that_a_declared_one_takes(step: type[Step[Order]]) -> None:
    """A step of anything, of a protocol or of a base class says nothing against the type in brackets."""

    class Declared(Saga[Order]):
        steps = [step, Reserve]

    assert Saga[Order](name="order", steps=[step, Reserve]).definition.context_type is Order
    assert Saga[Order](name="order", steps=[step]).definition.context_type is Order
    assert Declared().definition.context_type is Order


def test_a_step_of_anything_tells_no_context() -> None:
    """The next step that names a type does."""
    assert Saga(name="order", steps=[Look, Reserve]).definition.context_type is Order
    with pytest.raises(DefinitionError, match="its context type is open"):
        Saga(name="order", steps=[Look]).definition  # noqa: B018


def test_a_plain_class_is_told_what_it_should_be() -> None:
    class Plain:
        """Whoever wrote it forgot the decorator."""

    saga = Saga[Plain](name="order", steps=[Look])
    with pytest.raises(DefinitionError, match="Plain is neither an attrs class nor a dataclass: make it one of them"):
        saga.definition  # noqa: B018


def test_a_context_or_a_response_that_is_named_in_quotes_is_refused_as_what_it_is() -> None:
    """The class may well exist, so it must not be told to become an attrs class."""

    class Quoted(Step["Order", "Receipt"]):  # type: ignore[name-defined]
        read_only = True

        def act(self, order: Any) -> Any:
            """Look at it."""

    with pytest.raises(DefinitionError) as caught:

        class OfOrder(Saga[Order]):
            steps = (Quoted,)

    about_context, about_response = caught.value.problems
    assert about_context.startswith("step 'Quoted' works on 'Order', which is only a name in quotes")
    assert "of step 'Quoted' cannot be stored: its type 'Receipt' is only a name in quotes" in about_response

    with pytest.raises(DefinitionError, match="context type 'Order' is only a name in quotes"):

        class OfQuoted(Saga["Order"]):
            steps = (Look,)
