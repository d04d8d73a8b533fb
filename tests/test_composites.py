"""Fallback and Parallel as they are declared: what is refused, and what becomes of them once compiled."""

from __future__ import annotations

import asyncio
from types import new_class
from typing import Any, TypeVar

import pytest
from attrs import define

from anysaga import CircuitBreaker, DefinitionError, NotDone, Retry, Saga, Step, StepLost, StepTimeout
from anysaga._composites import Fallback, Parallel
from anysaga._definition import Definition
from anysaga._nodes import FallbackNode, Leaf, ParallelNode, is_below
from anysaga._step_problems import MAX_DEPTH

S = TypeVar("S", bound="type[Step[Any, Any]]")


@define
class Order:
    order_id: str = "1"


@define
class Refund:
    amount: int = 0


class A(Step[Order]):
    def act(self, order: Order) -> None:
        """Do it."""

    def compensate(self, order: Order) -> None:
        """Undo it."""


class B(A):
    pass


class C(A):
    pass


class D(A):
    pass


class Pay(A):
    pivot = True


class Look(A):
    read_only = True


class Again(A):
    retry = Retry()


class Repay(Step[Refund]):
    read_only = True

    def act(self, refund: Refund) -> None:
        """Look at it."""


def named(name: str, step: S = A) -> S:  # type: ignore[assignment]  # mypy knows no defaults for a type variable
    """A subclass of this step with another name."""
    made: S = new_class(name, (step,))  # type: ignore[assignment]
    return made


def declare(*steps: Any, **options: Any) -> Definition:
    return Saga[Order](name="order", steps=steps, **options).definition


def problems_of(*steps: Any) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        declare(*steps)
    return caught.value.problems


def nested(levels: int) -> Any:
    """Fallbacks inside each other, so many levels deep."""
    part: Any = named("Step0")
    for level in range(1, levels + 1):
        part = Fallback(part, named(f"Step{level}"))
    return part


def leaves(*steps: Any, **options: Any) -> dict[str, Leaf]:
    """The compiled steps by their names."""
    return {leaf.name: leaf for leaf in declare(*steps, **options).leaves}


class TestRefusedFallbacks:
    """What a Fallback may not be."""

    def test_to_itself(self) -> None:
        assert problems_of(Fallback(A, A))[0] == (
            "a Fallback falls back to itself (A): name another step as its `fallback`"
        )

    def test_to_itself_as_an_instance(self) -> None:
        step = A()

        assert problems_of(Fallback(step, step))[0].startswith("a Fallback falls back to itself (A)")

    def test_to_a_step_of_the_same_name(self) -> None:
        assert problems_of(Fallback(A(), A())) == ("two steps are named 'A': give one of them another `name`",)

    @pytest.mark.parametrize(
        "kinds",
        [ConnectionError, [ConnectionError], (1,), ("ConnectionError",), (ConnectionError(),), (Order,), None],
        ids=repr,
    )
    def test_with_failure_exceptions_that_are_no_tuple_of_exceptions(self, kinds: Any) -> None:
        assert problems_of(Fallback(A, B, kinds)) == (
            "`failure_exceptions` of a Fallback must be a tuple of exception types, such as `(ConnectionError,)`",
        )

    @pytest.mark.parametrize("kind", [BaseException, KeyboardInterrupt, asyncio.CancelledError])
    def test_with_failure_exceptions_that_never_fall_back(self, kind: Any) -> None:
        assert problems_of(Fallback(A, B, (kind,))) == (
            "`failure_exceptions` of a Fallback cannot hold cancellations and the like: they never fall back",
        )

    def test_deep_inside_another(self) -> None:
        (problem, *_) = problems_of(Fallback(A, Parallel(B, Fallback(C, C))))

        assert problem.startswith("a Fallback falls back to itself (C)")


class TestRefusedParallels:
    """What a Parallel may not be."""

    def test_without_steps(self) -> None:
        assert problems_of(A, Parallel()) == (
            "a Parallel has no steps: name them, as in `Parallel(BookHotel, BookFlight)`",
        )

    @pytest.mark.parametrize("limit", [0, -1, True, False, 1.0, 2.5, "2"], ids=repr)
    def test_with_a_limit_that_is_no_whole_number_above_0(self, limit: Any) -> None:
        assert problems_of(Parallel(A, B, limit=limit)) == (
            f"limit={limit!r} of a Parallel must be a whole number, 1 or more; None sets no limit",
        )

    def test_directly_inside_a_parallel(self) -> None:
        assert problems_of(Parallel(A, Parallel(B, C))) == (
            "a Parallel stands directly inside a Parallel: list its steps in the outer one",
        )

    def test_of_a_list(self) -> None:
        (problem,) = problems_of(Parallel([A, B]))  # type: ignore[arg-type]  # what is refused

        assert problem.startswith(f"{[A, B]!r} is no step: list subclasses of anysaga.Step")


class TestRefusedParts:
    """What may not stand inside a Fallback or a Parallel."""

    @pytest.mark.parametrize(
        "part", [Fallback(A, Pay), Fallback(Pay, A), Parallel(A, Pay)], ids=["to", "from", "group"]
    )
    def test_a_pivot(self, part: Any) -> None:
        assert problems_of(part) == (
            (
                "step 'Pay' is a pivot inside a Fallback or a Parallel: a point of no return "
                "is never undone, so it stands by itself in `steps`"
            ),
        )

    @pytest.mark.parametrize("wrong", [Order, "A", None, len], ids=repr)
    @pytest.mark.parametrize("whole", [lambda part: Fallback(A, part), lambda part: Parallel(A, part)], ids=["F", "P"])
    def test_what_is_no_step(self, whole: Any, wrong: Any) -> None:
        assert problems_of(whole(wrong)) == (
            (
                f"{wrong!r} is no step: list subclasses of anysaga.Step, or instances of them, anysaga.Fallback(...) "
                "or anysaga.Parallel(...)"
            ),
        )

    @pytest.mark.parametrize(
        "steps",
        [(Parallel(A, A),), (Parallel(A, Fallback(B, A)),), (A, Parallel(B, A)), (Fallback(A, B), Fallback(C, B))],
        ids=["branches", "nested", "outside", "another"],
    )
    def test_a_step_whose_name_is_taken(self, steps: tuple[Any, ...]) -> None:
        (problem,) = problems_of(*steps)

        assert problem.startswith("two steps are named ")

    @pytest.mark.parametrize(
        "part", [Fallback(A, Repay), Fallback(Repay, A), Parallel(A, Repay)], ids=["to", "from", "P"]
    )
    def test_a_step_of_another_context(self, part: Any) -> None:
        assert problems_of(D, part) == (
            "step 'Repay' works on Refund, and the saga on Order: one saga has one context type",
        )

    def test_a_step_that_could_not_stand_outside_either(self) -> None:
        class Forgetful(Step[Order]):
            def act(self, order: Order) -> None:
                """Do something that nobody can undo."""

        (problem,) = problems_of(Parallel(A, Fallback(B, Forgetful)))

        assert problem.startswith("step 'Forgetful': it says nothing about undoing")

    @pytest.mark.parametrize("levels", [MAX_DEPTH + 1, MAX_DEPTH + 50])
    def test_more_levels_than_allowed(self, levels: int) -> None:
        assert problems_of(nested(levels)) == (f"it has Fallbacks and Parallels in more than {MAX_DEPTH} levels",)

    def test_very_many_levels(self) -> None:
        assert problems_of(nested(2000)) == (f"it has Fallbacks and Parallels in more than {MAX_DEPTH} levels",)

    def test_but_as_many_levels_as_allowed(self) -> None:
        assert len(declare(nested(MAX_DEPTH)).leaves) == MAX_DEPTH + 1


class TestAfterAPivot:
    """A step whose failure no Fallback is sure to catch can be retried."""

    @pytest.mark.parametrize(
        ("part", "names"),
        [
            (Parallel(A, B), "AB"),
            (Fallback(A, B), "B"),
            (Fallback(A, B, (ConnectionError,)), "AB"),
            (Fallback(Parallel(A, B), C), "C"),
            (Fallback(A, Parallel(B, C)), "BC"),
            (Fallback(A, Fallback(B, C)), "C"),
            (Fallback(Fallback(A, B), C), "C"),
            (Fallback(Fallback(A, B), C, (ConnectionError,)), "BC"),
            (Parallel(Fallback(A, B), C), "BC"),
        ],
        ids=str,
    )
    def test_else_it_is_refused(self, part: Any, names: str) -> None:
        words = [f"step {name!r} stands after the pivot 'Pay' and cannot be retried" for name in names]

        assert [problem.split(":")[0] for problem in problems_of(Pay, part)] == words

    def test_a_primary_whose_every_error_is_caught_needs_no_retry(self) -> None:
        assert declare(Pay, Fallback(A, Again)).leaves[1].retry is None

    def test_before_the_pivot_nothing_needs_a_retry(self) -> None:
        assert len(declare(Parallel(A, B), Fallback(C, D), Pay).leaves) == 5


class TestPicture:
    """The error shows what was declared."""

    def test_it_shows_the_whole_tree(self) -> None:
        with pytest.raises(DefinitionError) as caught:
            declare(Look, Fallback(Parallel(A, Fallback(B, C)), D), Pay, Parallel())

        assert str(caught.value).endswith(
            "steps:\n  1. Look (read_only)\n  2. Fallback(Parallel(A, Fallback(B, C)), D)\n  3. Pay (pivot)\n"
            "  4. Parallel()"
        )

    def test_all_problems_are_listed_at_once(self) -> None:
        assert len(problems_of(Parallel(limit=0), Fallback(A, A, (1,)), Parallel(Pay, 7))) == 7  # type: ignore[arg-type]


class TestCompiled:
    """The nodes that the engine sees."""

    tree = (A, Fallback(Parallel(B, Fallback(C, D)), named("E")), Parallel(named("F"), named("G"), limit=1))

    def test_paths_say_where_a_step_stands(self) -> None:
        assert [(leaf.name, leaf.path) for leaf in declare(*self.tree).leaves] == [
            ("A", "1"),
            ("B", "2/primary/1"),
            ("C", "2/primary/2/primary"),
            ("D", "2/primary/2/fallback"),
            ("E", "2/fallback"),
            ("F", "3/1"),
            ("G", "3/2"),
        ]

    def test_a_place_is_that_of_the_top_level_node(self) -> None:
        assert [leaf.place for leaf in declare(*self.tree).leaves] == [0, 1, 1, 1, 1, 2, 2]

    def test_nodes_are_nested_as_declared(self) -> None:
        _, fallback, parallel = declare(*self.tree).steps

        assert isinstance(fallback, FallbackNode)
        assert isinstance(fallback.primary, ParallelNode)
        assert isinstance(fallback.primary.children[1], FallbackNode)
        assert isinstance(parallel, ParallelNode)
        assert [fallback.path, fallback.primary.path, fallback.primary.children[1].path] == [
            "2",
            "2/primary",
            "2/primary/2",
        ]

    @pytest.mark.parametrize(("limit", "at_once"), [(None, 2), (1, 1), (2, 2), (7, 7)])
    def test_a_limit_is_the_number_of_branches_by_default(self, limit: int | None, at_once: int) -> None:
        (node,) = declare(Parallel(A, B, limit=limit)).steps

        assert isinstance(node, ParallelNode)
        assert (node.limit, node.size) == (at_once, 2)

    def test_a_scope_is_the_innermost_branch_of_a_parallel(self) -> None:
        scopes = {name: leaf.scope for name, leaf in leaves(*self.tree).items()}

        assert scopes == {
            "A": "",
            "B": "2/primary/1",
            "C": "2/primary/2",
            "D": "2/primary/2",
            "E": "",
            "F": "3/1",
            "G": "3/2",
        }

    def test_backs_are_the_primaries_that_a_step_is_part_of(self) -> None:
        found = leaves(*self.tree)

        assert [found[name].backs for name in "ABCDE"] == [
            ("",),
            ("", "2/primary"),
            ("", "2/primary", "2/primary/2/primary"),
            ("", "2/primary"),
            ("",),
        ]

    def test_a_source_says_which_branch_of_the_innermost_fallback_a_step_is(self) -> None:
        sources = {name: leaf.source for name, leaf in leaves(*self.tree).items()}

        assert sources == {
            "A": "step",
            "B": "primary",
            "C": "primary",
            "D": "fallback",
            "E": "fallback",
            "F": "step",
            "G": "step",
        }

    def test_each_node_knows_when_it_is_done(self) -> None:
        above = leaves(*self.tree)["D"].above

        assert [(each.path, each.branch, each.size, each.parallel) for each in above] == [
            ("2", "2/primary", 1, False),
            ("2/primary", "2/primary/2", 2, True),
            ("2/primary/2", "2/primary/2/fallback", 1, False),
        ]

    def test_policies_of_undoing_reach_every_step(self) -> None:
        found = declare(*self.tree, compensate_retry=Retry(attempts=7)).leaves

        assert {leaf.compensate_retry.attempts for leaf in found} == {7}

    def test_one_composite_may_be_part_of_two_sagas(self) -> None:
        part = Fallback(A, B)

        assert declare(part).leaves[0].path == "1/primary"
        assert declare(C, part).leaves[1].path == "2/primary"


class TestBreakers:
    """A breaker is asked by each step of the primary."""

    def test_it_reaches_every_step_of_the_primary_and_no_other(self) -> None:
        breaker = CircuitBreaker()
        found = leaves(Fallback(Parallel(A, B), C, circuit_breaker=breaker), D)

        assert [found[name].breaker for name in "ABCD"] == [breaker, breaker, None, None]

    def test_one_of_an_inner_fallback_wins_in_its_own_primary(self) -> None:
        outer, inner = CircuitBreaker(), CircuitBreaker()
        found = leaves(Fallback(Fallback(A, B, circuit_breaker=inner), C, circuit_breaker=outer))

        assert [found[name].breaker for name in "ABC"] == [inner, outer, None]


class TestCatchers:
    """Which Fallback takes over because of an error: the innermost that catches it."""

    def catcher(self, *steps: Any, error: BaseException, name: str = "A") -> str | None:
        return leaves(*steps)[name].catcher(error)

    @pytest.mark.parametrize("error", [ValueError(), NotDone(), StepLost("A"), ExceptionGroup("", [ValueError()])])
    def test_without_failure_exceptions_every_error_is_caught(self, error: Exception) -> None:
        assert self.catcher(Fallback(A, B), error=error) == "1/primary"

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()], ids=repr)
    def test_what_is_no_error_is_never_caught(self, error: BaseException) -> None:
        assert self.catcher(Fallback(A, B), error=error) is None
        assert self.catcher(Fallback(A, B), error=BaseExceptionGroup("", [error])) is None

    def test_a_type_catches_its_subclasses(self) -> None:
        part = Fallback(A, B, (OSError,))

        assert self.catcher(part, error=ConnectionError()) == "1/primary"
        assert self.catcher(part, error=ValueError()) is None

    def test_a_time_limit_counts_as_a_timeout_error(self) -> None:
        error = StepTimeout("order", "1", "A", 1.0)

        assert self.catcher(Fallback(A, B, (TimeoutError,)), error=error) == "1/primary"

    def test_a_group_is_caught_if_each_error_in_it_is(self) -> None:
        part = Fallback(A, B, (OSError, KeyError))
        inner = ExceptionGroup("", [KeyError()])

        assert self.catcher(part, error=ExceptionGroup("", [ConnectionError(), inner])) == "1/primary"
        assert self.catcher(part, error=ExceptionGroup("", [ConnectionError(), ValueError()])) is None

    def test_the_inner_one_comes_first(self) -> None:
        part = Fallback(Fallback(A, B, (OSError,)), C)

        assert self.catcher(part, error=OSError()) == "1/primary/primary"
        assert self.catcher(part, error=ValueError()) == "1/primary"

    def test_the_fallback_is_caught_by_the_outer_one_alone(self) -> None:
        part = Fallback(Fallback(A, B), C)

        assert self.catcher(part, error=ValueError(), name="B") == "1/primary"
        assert self.catcher(part, error=ValueError(), name="C") is None

    def test_a_failure_in_a_group_takes_the_group_back(self) -> None:
        part = Fallback(Parallel(A, Fallback(B, C, (OSError,))), D)

        assert self.catcher(part, error=OSError()) == "1/primary"
        assert self.catcher(part, error=OSError(), name="B") == "1/primary/2/primary"
        assert self.catcher(part, error=ValueError(), name="B") == "1/primary"

    def test_a_step_outside_is_caught_by_nothing(self) -> None:
        assert self.catcher(A, Parallel(B, C), error=ValueError()) is None
        assert self.catcher(A, Parallel(B, C), error=ValueError(), name="B") is None

    @pytest.mark.parametrize(
        ("name", "primary"), [("A", "1/primary/primary"), ("B", "1/primary"), ("C", None), ("D", None)]
    )
    def test_an_open_circuit_leads_to_the_innermost_primary(self, name: str, primary: str | None) -> None:
        found = leaves(Fallback(Fallback(A, B, (OSError,)), C, (OSError,)), D)

        assert found[name].innermost_primary == primary


class TestStoredShape:
    """A saga that was started with another shape does not fit."""

    shapes = (
        (Fallback(A, B), C),
        (A, B, C),
        (Fallback(B, A), C),
        (Parallel(A, B), C),
        (Fallback(Parallel(A), B), C),
        (Fallback(A, Fallback(B, C)),),
        (Fallback(Fallback(A, B), C),),
        (Parallel(A, B, C),),
        (Parallel(A, Fallback(B, C)),),
        (Parallel(Fallback(A, B), C),),
    )

    def test_every_shape_has_an_outline_of_its_own(self) -> None:
        outlines = [declare(*shape).outline for shape in self.shapes]

        assert len(set(outlines)) == len(self.shapes)

    def test_the_difference_names_paths_and_steps(self) -> None:
        stored = declare(Fallback(A, B), Look)
        code = declare(Parallel(A, B), Look)

        assert code.difference("order", 1, stored.outline) == (
            "it was started with the steps 1/primary A, 1/fallback B, 2 Look (read_only), "
            "and the code has 1/1 A, 1/2 B, 2 Look (read_only)"
        )

    def test_the_same_shape_fits(self) -> None:
        assert declare(Fallback(A, B)).difference("order", 1, declare(Fallback(A, B)).outline) is None

    def test_what_is_decided_live_is_no_part_of_the_shape(self) -> None:
        """Exceptions, limits and breakers may change while sagas are stored."""
        assert declare(Fallback(A, B), Parallel(C, D)).outline == (
            declare(Fallback(A, B, (OSError,), circuit_breaker=CircuitBreaker()), Parallel(C, D, limit=1)).outline
        )


@pytest.mark.parametrize(
    ("path", "top", "below"),
    [
        ("1", "", True),
        ("1", "1", True),
        ("1/primary", "1", True),
        ("1/primary/2", "1/primary", True),
        ("1", "1/primary", False),
        ("11", "1", False),
        ("1/10", "1/1", False),
        ("1/fallback", "1/primary", False),
    ],
)
def test_a_path_is_below_those_that_it_continues(path: str, top: str, *, below: bool) -> None:
    assert is_below(path, top) is below
