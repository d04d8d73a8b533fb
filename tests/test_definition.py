"""The compiled saga: what holds for each step, and how a stored saga is told from the code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define

from anysaga import NotDone, Retry, Saga, Step
from anysaga._definition import DEFAULT_COMPENSATE_RETRY, Definition, outline_of, words_of


@define
class Order:
    order_id: str = "1"


class CardDeclined(Exception):
    pass


class Reserve(Step[Order, int]):
    timeout = 5.0
    not_done_on = (CardDeclined,)

    async def act(self, order: Order) -> int:
        return 1

    def compensate(self, order: Order) -> None:
        """Release it."""


class Look(Step[Order]):
    read_only = True
    atomic = True

    def act(self, order: Order) -> None:
        """Look at it."""


class Pay(Step[Order]):
    pivot = True
    retry = Retry(attempts=7)
    compensate_retry = Retry(attempts=9)

    def act(self, order: Order) -> None:
        """Take the money."""


def compiled(*steps: Any, **options: Any) -> Definition:
    return Saga[Order](name="order", steps=steps or [Reserve, Look, Pay], **options).definition


class TestLeaf:
    """A step at its place."""

    def test_its_attributes_are_those_of_the_step(self) -> None:
        reserve, look, pay = compiled().leaves

        assert (reserve.timeout, reserve.retry, reserve.pivot, reserve.read_only) == (5.0, None, False, False)
        assert (look.timeout, look.read_only, look.atomic) == (None, True, True)
        assert (pay.pivot, pay.retry) == (True, Retry(attempts=7))

    def test_an_instance_may_have_attributes_of_its_own(self) -> None:
        reserve = Reserve()
        reserve.timeout = 1.0

        assert compiled(reserve).leaves[0].timeout == 1.0

    def test_paths_count_from_1(self) -> None:
        assert [leaf.path for leaf in compiled().leaves] == ["1", "2", "3"]

    def test_its_own_policy_of_undoing_wins_over_that_of_the_saga(self) -> None:
        policies = [leaf.compensate_retry for leaf in compiled(compensate_retry=Retry(attempts=2)).leaves]

        assert [policy.attempts for policy in policies] == [2, 2, 9]

    def test_undoing_is_tried_3_times_by_default(self) -> None:
        assert compiled().leaves[0].compensate_retry == Retry(attempts=3, delay=1.0, backoff=2.0)
        assert Retry(attempts=3, delay=1.0, backoff=2.0) == DEFAULT_COMPENSATE_RETRY


class TestClean:
    """A2: which errors of act say that it had no effect."""

    @pytest.fixture
    def reserve(self) -> Any:
        return compiled().leaves[0]

    @pytest.mark.parametrize("error", [NotDone(), CardDeclined(), type("Sub", (CardDeclined,), {})()])
    def test_not_done_and_what_not_done_on_names_are(self, reserve: Any, error: Exception) -> None:
        assert reserve.is_clean(error)

    @pytest.mark.parametrize("error", [ValueError(), Exception(), TimeoutError()])
    def test_others_are_not(self, reserve: Any, error: Exception) -> None:
        assert not reserve.is_clean(error)

    @pytest.mark.parametrize("error", [ValueError(), TimeoutError(), NotDone()])
    def test_all_are_where_the_step_is_atomic(self, error: Exception) -> None:
        assert compiled().leaves[1].is_clean(error)

    def test_a_group_is_if_every_leaf_is(self, reserve: Any) -> None:
        inner = ExceptionGroup("", [NotDone(), CardDeclined()])

        assert reserve.is_clean(ExceptionGroup("", [inner, NotDone()]))

    def test_a_group_is_not_if_one_leaf_is_not(self, reserve: Any) -> None:
        inner = ExceptionGroup("", [CardDeclined(), ValueError()])

        assert not reserve.is_clean(ExceptionGroup("", [inner, NotDone()]))


class TestResponse:
    """A response as it is stored."""

    def test_it_comes_back(self) -> None:
        reserve = compiled().leaves[0]

        assert reserve.decode_response(reserve.encode_response(17)) == 17

    def test_a_step_without_one_stores_nothing(self) -> None:
        look = compiled().leaves[1]

        assert look.encode_response(None) is None
        assert look.decode_response(None) is None


class TestLookup:
    """Finding a step."""

    def test_the_whole_saga_has_no_name_of_a_step(self) -> None:
        assert [compiled().name_at(path) for path in ("2", "", "9")] == ["Look", "", ""]


class TestOutline:
    """The stored shape: ordered names, and how each step is undone."""

    def test_it_lists_path_name_and_kind_in_order(self) -> None:
        assert json.loads(compiled().outline) == [
            ["1", "Reserve", "step"],
            ["2", "Look", "read_only"],
            ["3", "Pay", "pivot"],
        ]

    def test_it_reads_well(self) -> None:
        assert words_of(compiled().outline) == "1 Reserve, 2 Look (read_only), 3 Pay (pivot)"

    def test_timeouts_and_policies_are_no_part_of_it(self) -> None:
        assert compiled(Reserve).outline == compiled(type("Reserve", (Reserve,), {"timeout": 1.0})).outline


class TestDifference:
    """I12: a log that does not fit the code is told in words."""

    def difference(self, *steps: Any, name: str = "order", version: int = 1) -> str | None:
        code = compiled()
        return code.difference(name, version, outline_of(compiled(*steps).leaves) if steps else code.outline)

    def test_the_same_saga_fits(self) -> None:
        assert self.difference() is None

    def test_another_name_does_not(self) -> None:
        assert self.difference(name="refund") == "it is a saga 'refund', and the code is 'order'"

    def test_another_version_does_not(self) -> None:
        assert self.difference(version=2) == "it was started by version 2, and the code is version 1"

    @pytest.mark.parametrize(
        "steps",
        [
            [Reserve, Look],
            [Look, Reserve, Pay],
            [Reserve, Look, type("Pay", (Pay,), {"pivot": False, "read_only": True})],
            [Reserve, Look, type("Paid", (Pay,), {})],
        ],
        ids=["fewer", "another order", "another kind", "another name"],
    )
    def test_other_steps_do_not(self, steps: list[Any]) -> None:
        found = self.difference(*steps)

        assert found is not None
        assert found.startswith("it was started with the steps 1 ")
        assert found.endswith("and the code has 1 Reserve, 2 Look (read_only), 3 Pay (pivot)")
