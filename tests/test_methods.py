"""Methods of steps: those that a saga refuses to be declared with, and those that give coroutines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial, wraps
from typing import Any
from unittest.mock import AsyncMock

import pytest
from attrs import define

from anysaga import DefinitionError, Outcome, Saga, Step
from anysaga._methods import is_async


@define
class Order:
    order_id: str


class Reserve(Step[Order]):
    async def act(self, order: Order) -> None: ...

    async def compensate(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    steps = [Reserve]


def declare(step: object) -> None:
    Saga[Order](name="order", steps=[step])  # type: ignore[list-item]  # what is checked


def with_method(name: str, method: object) -> type[Reserve]:
    return type("Reserve", (Reserve,), {name: method})


def problems_of(step: object) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        declare(step)
    return caught.value.problems


def without_context(self: object) -> None: ...


def without_self(order: Order) -> None: ...


def with_more(self: object, order: Order, bank: object) -> None: ...


def with_more_by_name(self: object, order: Order, *, bank: object) -> None: ...


@pytest.mark.parametrize("name", ["act", "compensate", "probe"])
@pytest.mark.parametrize(
    "method", [without_context, without_self, with_more, with_more_by_name], ids=lambda one: str(one.__name__)
)
def test_a_method_that_cannot_be_called_with_the_context_is_refused(name: str, method: object) -> None:
    """It would fail in the first act, or, far worse, in the first undo."""
    problem = f"step 'Reserve': its `{name}` cannot be called with the context alone: write `def {name}(self, context)`"
    assert problems_of(with_method(name, method)) == (problem,)
    assert problems_of(with_method(name, method)()) == (problem,)


def plain_generator(self: object, order: Order) -> Iterator[None]:
    yield


async def asynchronous_generator(self: object, order: Order) -> Any:
    yield


@pytest.mark.parametrize("name", ["act", "compensate", "probe"])
@pytest.mark.parametrize("method", [plain_generator, asynchronous_generator], ids=["plain", "async"])
def test_a_method_with_a_yield_is_refused(name: str, method: object) -> None:
    """Calling it runs nothing, so an undo would count as done that never began."""
    (problem,) = problems_of(with_method(name, method))
    assert problem.startswith(f"step 'Reserve': its `{name}` has a `yield`")


@pytest.mark.parametrize("name", ["act", "compensate"])
def test_a_method_that_is_no_function_is_refused(name: str) -> None:
    (problem,) = problems_of(with_method(name, 5))
    assert problem.startswith(f"step 'Reserve': its `{name}` is no function")


def with_a_default(self: object, order: Order, bank: str = "") -> None: ...


def with_a_named_default(self: object, order: Order, *, bank: str = "") -> None: ...


def with_anything(*things: object, **others: object) -> None: ...


@wraps(without_context)
def decorated(*things: object) -> None: ...


async def static(order: Order) -> None: ...


def of_the_class(cls: type, order: Order) -> None: ...


def bound_late(self: object) -> Callable[[Order], Awaitable[None]]:
    return AsyncMock()


@pytest.mark.parametrize(
    "method",
    [
        with_a_default,
        with_a_named_default,
        with_anything,
        decorated,
        staticmethod(static),
        classmethod(of_the_class),
        property(bound_late),
        partial(with_anything, 1),
        AsyncMock(),
    ],
    ids=lambda one: getattr(one, "__name__", type(one).__name__),
)
def test_whatever_takes_one_context_will_do(method: object) -> None:
    declare(with_method("compensate", method))


@pytest.mark.parametrize("mark", ["pivot", "read_only", "atomic"])
@pytest.mark.parametrize(
    "value", ["no", 0, None, property(lambda _: False)], ids=["text", "number", "none", "property"]
)
def test_a_mark_is_true_or_false(mark: str, value: object) -> None:
    """Any other value would count as one of the two, and nobody sees which: ``read_only = "no"`` would never undo."""
    assert problems_of(type("Reserve", (Reserve,), {mark: value})) == (
        f"step 'Reserve': {mark}={value!r} must be True or False",
    )


def test_what_a_step_does_not_define_is_not_looked_at() -> None:
    """A read-only step needs no compensate, and a probe is optional."""

    class Look(Step[Order, int]):
        read_only = True

        async def act(self, order: Order) -> int:
            return 3

        async def probe(self, order: Order) -> Outcome:
            return Outcome.UNKNOWN

    declare(Look)


def test_an_async_method_gives_a_coroutine_and_a_plain_one_does_not() -> None:
    assert is_async(Reserve().act)
    assert not is_async(with_method("act", lambda self, order: None)().act)


class Answer(Reserve):
    """A step as python-cqrs has them."""

    async def act(self, order: Order) -> Any:
        return self._generate_step_result("shelf 4")  # type: ignore[attr-defined]  # what is refused


class Records(Reserve):
    """Its events were collected after its act there."""

    def __init__(self) -> None:
        self.recorded: list[object] = []

    @property
    def events(self) -> list[object]:
        return self.recorded


def test_a_result_made_as_in_python_cqrs_is_refused_before_an_act_has_its_effect() -> None:
    """It would fail at the end of the act, and the saga go back."""
    problem = "its `act` calls `self._generate_step_result`, which is of python-cqrs: return the response itself"
    assert problems_of(Answer) == problems_of(Answer()) == (f"step 'Answer': {problem}",)


def test_a_step_that_has_such_a_method_itself_may_call_it() -> None:
    declare(type("Answer", (Answer,), {"_generate_step_result": lambda self, response: response}))


def test_events_as_in_python_cqrs_are_refused_since_nobody_would_ever_hear_of_them() -> None:
    (problem,) = problems_of(Records)
    assert "it has a property `events`" in problem
    assert "`current_step().record(event)`" in problem


@pytest.mark.parametrize("name", ["count", "delay", "backoff"])
def test_retries_as_in_python_cqrs_are_refused_since_nobody_would_ever_look_at_them(name: str) -> None:
    wanted = rf"`compensation_retry_{name}` is of python-cqrs: write `compensate_retry = Retry\(attempts=3"
    with pytest.raises(DefinitionError, match=rf"step 'Reserve': {wanted}"):
        declare(type("Reserve", (Reserve,), {f"compensation_retry_{name}": 5}))
    with pytest.raises(DefinitionError, match=wanted):
        type("Undoing", (OrderSaga,), {f"compensation_retry_{name}": 5})


def test_a_step_may_have_events_that_are_given_to_it() -> None:
    class Publishes(Reserve):
        def __init__(self, events: list[object]) -> None:
            self.events = events

    declare(Publishes)
    declare(Publishes([]))
