"""The base of all steps."""

from __future__ import annotations

import pytest

from anysaga import Outcome, Step
from anysaga._step import defines


class Whole(Step[int, int]):
    def act(self, number: int) -> int:
        return number

    async def compensate(self, number: int) -> None:
        """Undo it."""

    async def probe(self, number: int) -> Outcome:
        return Outcome.DONE


class Inherited(Whole):
    pass


class ByMixin:
    def compensate(self, number: int) -> None:
        """Undo it."""


class Mixed(ByMixin, Step[int]):
    pass


METHODS = ("act", "compensate", "probe")


@pytest.mark.parametrize("method", METHODS)
def test_the_base_defines_nothing(method: str) -> None:
    assert not defines(Step, method)
    assert not defines(type("Empty", (Step,), {}), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [Whole, Inherited])
def test_an_own_method_and_an_inherited_one_count(step: type[Step[int, int]], method: str) -> None:
    assert defines(step, method)


def test_a_method_of_a_mixin_counts() -> None:
    assert [defines(Mixed, method) for method in METHODS] == [False, True, False]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_missing_says_whose_it_is(method: str) -> None:
    class Empty(Step[int]):
        pass

    with pytest.raises(NotImplementedError, match=f"Empty does not define {method}"):
        getattr(Empty(), method)(1)


def test_by_default_a_step_is_cautious() -> None:
    """Unlimited, not retried, not atomic, no pivot, not read-only; any error leaves doubt."""
    assert (Step.name, Step.timeout, Step.retry, Step.compensate_retry) == ("", None, None, None)
    assert (Step.atomic, Step.not_done_on, Step.pivot, Step.read_only) == (False, (), False, False)
