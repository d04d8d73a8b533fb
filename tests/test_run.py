"""What the branches of a saga share: which error is the saga's, and which result the caller still sees."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from anysaga import Fallback, Parallel, Saga, SagaTimeout, Step, StepResult
from anysaga._nodes import ROOT
from anysaga._run import Run


@define
class Trip:
    days: int = 1


class A(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        """Nothing."""

    async def compensate(self, trip: Trip) -> None:
        """Nothing."""


class B(A):
    """As A."""


class C(A):
    """As A."""


LEAVES = {leaf.name: leaf for leaf in Saga[Trip](name="trip", steps=[Fallback(Parallel(A, B), C)]).definition.leaves}


def done(run: Run, name: str) -> StepResult[Any]:
    result: StepResult[Any] = StepResult("t", name, LEAVES[name].type, None, 1, 0.0)
    run.done(LEAVES[name], result)
    return result


def test_one_error_is_the_saga_s_as_it_is() -> None:
    run, error = Run(), OSError()
    run.failed(LEAVES["A"], error)
    assert run.error is error


def test_several_are_a_group() -> None:
    run, first, second = Run(), OSError(), KeyError()
    run.failed(LEAVES["A"], first)
    run.failed(LEAVES["B"], second)
    assert isinstance(run.error, ExceptionGroup)
    assert run.error.exceptions == (first, second)


def test_the_time_limit_of_the_saga_is_raised_once_though_each_branch_has_one() -> None:
    run, error = Run(), SagaTimeout("trip", "t", 1.0)
    run.failed(LEAVES["A"], error)
    run.failed(LEAVES["B"], SagaTimeout("trip", "t", 1.0))
    run.failed(LEAVES["C"], OSError())
    assert run.error is error


def test_a_step_that_is_done_after_all_has_no_error() -> None:
    run = Run()
    run.failed(LEAVES["A"], OSError())
    done(run, "A")
    assert run.error is None


def test_what_a_fallback_caught_is_no_longer_the_saga_s_error() -> None:
    run = Run()
    run.failed(LEAVES["A"], OSError())
    run.goes_back("1/primary")
    run.failed(LEAVES["B"], KeyError())
    assert run.error is None


def test_what_a_fallback_caught_is_the_context_of_its_fallback_s_error() -> None:
    run, first, second = Run(), OSError(), KeyError()
    run.failed(LEAVES["A"], first)
    run.goes_back("1/primary")
    run.failed(LEAVES["C"], second)
    assert run.error is second
    assert second.__context__ is first


def test_a_context_never_leads_round_in_a_circle() -> None:
    run, error = Run(), OSError()
    error.__context__ = KeyError()
    error.__context__.__context__ = ValueError()
    run.failed(LEAVES["A"], error)
    run.goes_back("1/primary")
    run.failed(LEAVES["C"], error)
    seen: list[BaseException] = []
    context: BaseException | None = error
    while context is not None:
        assert context not in seen
        seen.append(context)
        context = context.__context__


@pytest.mark.parametrize(("path", "left"), [("1/primary", ["C"]), (ROOT, ["A", "C"])])
def test_results_of_a_primary_that_goes_back_are_not_shown(path: str, left: list[str]) -> None:
    run = Run()
    done(run, "A")
    done(run, "C")
    run.goes_back(path)
    assert [result.step_name for result in run.fresh] == left
    assert sorted(LEAVES[name].path for name in left) == sorted(run.results)
