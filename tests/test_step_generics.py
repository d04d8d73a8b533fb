"""Which types a class gave to the parameters of a generic base."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import pytest

from anysaga import Saga, Step
from anysaga._generics import arguments_of, is_open

T = TypeVar("T")
R = TypeVar("R")


class Both(Step[int, str]):
    pass


class OnlyContext(Step[int]):
    pass


class Inherited(Both):
    pass


class Swapped(Step[T, R], Generic[R, T]):
    """Its parameters stand in another order than those of `Step`."""


class SwappedBack(Swapped[str, int]):
    pass


class Half(Step[int, R], Generic[R]):
    pass


class Whole(Half[str]):
    pass


class Nested(Step[int, dict[str, list[R]]], Generic[R]):
    pass


class NestedWhole(Nested[bytes]):
    pass


class Optional(Step[int, R | None], Generic[R]):
    pass


class OptionalWhole(Optional[bytes]):
    pass


class Mixin(Generic[T]):
    pass


class Mixed(Mixin[bytes], Step[int, str]):
    pass


class Untyped(Step):  # type: ignore[type-arg]  # what a user may forget
    pass


class OfAnything(Step[Any, Any]):
    pass


class BesideUntyped(Untyped, Step[int, str]):  # pyright: ignore[reportGeneralTypeIssues]
    pass


class BesideUnfilled(Half, Step[int, str]):  # type: ignore[type-arg]
    pass


class BesideAnything(OfAnything, Step[int, str]):
    pass


class BesideWhole(Untyped, Whole):  # pyright: ignore[reportGeneralTypeIssues]
    pass


class Deep(Half[T]):
    pass


class Deeper(Deep[str]):
    pass


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Both, (int, str)),
        (OnlyContext, (int, None)),
        (Inherited, (int, str)),
        (SwappedBack, (int, str)),
        (Whole, (int, str)),
        (NestedWhole, (int, dict[str, list[bytes]])),
        (OptionalWhole, (int, bytes | None)),
        (Mixed, (int, str)),
        (Deeper, (int, str)),
        (BesideUntyped, (int, str)),
        (BesideUnfilled, (int, str)),
        (BesideAnything, (int, str)),
        (BesideWhole, (int, str)),
        (OfAnything, (Any, Any)),
    ],
)
def test_the_arguments_are_those_that_reach_the_base(kind: type, arguments: tuple[object, ...]) -> None:
    """Through inheritance, other orders, partial and nested parameters, and mixins."""
    assert arguments_of(kind, Step) == arguments


def test_without_a_response_it_is_none() -> None:
    """``Step[Order]`` answers None: the type variable has a default."""
    assert arguments_of(OnlyContext, Step)[1] is None


def test_a_parameter_that_nobody_filled_stays_open() -> None:
    context, response = arguments_of(Half, Step)

    assert context is int
    assert is_open(response)


def test_a_bare_base_leaves_its_parameters_open_or_at_their_default() -> None:
    class Bare(Step):  # type: ignore[type-arg]  # what a user may forget
        pass

    context, response = arguments_of(Bare, Step)

    assert is_open(context)
    assert response is None


def test_a_saga_tells_its_context() -> None:
    class OrderSaga(Saga[int]):
        pass

    class Derived(OrderSaga):
        pass

    assert arguments_of(Derived, Saga) == (int,)


@pytest.mark.parametrize("argument", [int, None, list[int], "T", Any])
def test_a_type_is_not_open(argument: object) -> None:
    assert not is_open(argument)
