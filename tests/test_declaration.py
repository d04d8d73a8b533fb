"""Which sagas are refused when they are declared, and with what words."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from types import new_class
from typing import Any, Generic, Protocol, TypeVar

import pytest
from attrs import define

from anysaga import DefinitionError, NotDone, Outcome, Retry, Saga, Step
from anysaga._definition import Definition

T = TypeVar("T")
S = TypeVar("S", bound="type[Step[Any, Any]]")


@define
class Order:
    order_id: str = "1"


@define
class RushOrder(Order):
    minutes: int = 5


@define
class Refund:
    amount: int = 0


class HasOrderId(Protocol):
    order_id: str


class Reserve(Step[Order, str]):
    def act(self, order: Order) -> str:
        return "r-1"

    def compensate(self, order: Order) -> None:
        """Release it."""


class Charge(Reserve):
    pass


class Pay(Step[Order]):
    pivot = True

    def act(self, order: Order) -> None:
        """Take the money."""


class Look(Step[Order, int]):
    read_only = True

    def act(self, order: Order) -> int:
        return 3


class Ship(Reserve):
    retry = Retry()


class Forgetful(Step[Order]):
    def act(self, order: Order) -> None:
        """Do something that nobody can undo."""


def declare(*steps: Any, **attributes: Any) -> Definition:
    """The definition of a saga class that has these steps and attributes."""
    members = {"steps": list(steps), **attributes}
    kind = new_class("OrderSaga", (Saga[Order],), exec_body=lambda names: names.update(members))
    definition: Definition = kind().definition
    return definition


def problems_of(*steps: Any, **attributes: Any) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        declare(*steps, **attributes)
    return caught.value.problems


def with_(step: S, **attributes: Any) -> S:
    """A subclass of this step with other attributes, under the same name."""
    made: S = new_class(step.__name__, (step,), exec_body=lambda names: names.update(attributes))  # type: ignore[assignment]
    return made


class TestSteps:
    """`steps` lists step classes, or instances of them."""

    def test_a_saga_has_steps(self) -> None:
        with pytest.raises(DefinitionError) as caught:
            Saga[Order](name="empty", steps=[])

        assert caught.value.problems == ("it has no steps: list its step classes in `steps`",)

    def test_a_class_without_steps_is_a_base_for_others(self) -> None:
        class Base(Saga[Order]):
            timeout = 3.0

        class Derived(Base):
            steps = [Reserve]

        assert Derived().definition.timeout == 3.0
        with pytest.raises(DefinitionError, match="it has no steps"):
            Base()

    @pytest.mark.parametrize(
        "steps", ["Reserve", Reserve, {Reserve}, iter([Reserve])], ids=["text", "step", "set", "iterator"]
    )
    def test_they_are_a_sequence(self, steps: object) -> None:
        with pytest.raises(DefinitionError, match="steps is no list of step classes"):
            Saga[Order](name="odd", steps=steps)  # type: ignore[arg-type]  # what is refused

    @pytest.mark.parametrize("wrong", [Order, "Reserve", None, len, Reserve().act], ids=lambda one: type(one).__name__)
    def test_each_is_a_step(self, wrong: object) -> None:
        assert problems_of(wrong) == (
            (
                f"{wrong!r} is no step: list subclasses of anysaga.Step, or instances of them, anysaga.Fallback(...) "
                "or anysaga.Parallel(...)"
            ),
        )

    def test_classes_and_instances_may_be_mixed(self) -> None:
        charge = Charge()
        definition = declare(Reserve, charge)

        assert [(leaf.path, leaf.name, leaf.step) for leaf in definition.leaves] == [
            ("1", "Reserve", Reserve),
            ("2", "Charge", charge),
        ]

    @pytest.mark.parametrize("sequence", [list, tuple])
    def test_a_list_and_a_tuple_will_do(self, sequence: Callable[[Any], Any]) -> None:
        class OrderSaga(Saga[Order]):
            steps = sequence((Reserve, Charge))

        assert len(OrderSaga().definition.leaves) == 2

    def test_each_defines_act(self) -> None:
        class Idle(Step[Order]):
            read_only = True

        assert problems_of(Idle) == ("step 'Idle': it does not define `act`",)


NO_NAMES = ["x" * 201, 17, "a\0b", "a\ud800b", "a\nb"]


class TestNames:
    """Names are the keys of the log for people: explicit, or that of the class."""

    def test_a_name_is_that_of_the_class(self) -> None:
        definition = declare(Reserve)

        assert (definition.name, definition.leaves[0].name) == ("OrderSaga", "Reserve")

    def test_a_name_may_be_given(self) -> None:
        definition = declare(with_(Reserve, name="reserve"), name="order")

        assert (definition.name, definition.leaves[0].name) == ("order", "reserve")

    def test_two_steps_of_one_name_are_refused(self) -> None:
        assert problems_of(Reserve, Reserve) == ("two steps are named 'Reserve': give one of them another `name`",)

    def test_two_instances_of_one_class_are_two_steps_of_one_name(self) -> None:
        assert problems_of(Reserve(), Reserve()) == ("two steps are named 'Reserve': give one of them another `name`",)

    def test_one_class_may_stand_twice_under_two_names(self) -> None:
        class Named(Reserve):
            def __init__(self, name: str) -> None:
                self.name = name

        definition = declare(Named("one"), Named("two"))

        assert [leaf.name for leaf in definition.leaves] == ["one", "two"]

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_a_step_name_is_a_text_that_stores_keep(self, name: object) -> None:
        (problem,) = problems_of(with_(Reserve, name=name))

        assert problem.endswith("its name must be a text of at most 200 printable characters")

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_a_saga_name_is_a_text_that_stores_keep(self, name: object) -> None:
        assert problems_of(Reserve, name=name) == ("its name must be a text of 1 to 200 printable characters",)

    def test_200_characters_are_allowed(self) -> None:
        assert len(declare(with_(Reserve, name="x" * 200), name="y" * 200).leaves[0].name) == 200


class TestUndoing:
    """Each step says how it is undone."""

    def test_a_step_that_says_nothing_is_shown_the_choice(self) -> None:
        assert problems_of(Forgetful) == (
            (
                "step 'Forgetful': it says nothing about undoing: define `compensate`, or say `pivot = True` "
                "(a point of no return) or `read_only = True` (nothing to undo)"
            ),
        )

    @pytest.mark.parametrize("step", [Reserve, Pay, Look, Pay()])
    def test_any_of_the_three_will_do(self, step: object) -> None:
        assert len(declare(step).leaves) == 1

    def test_an_inherited_compensate_will_do(self) -> None:
        assert "compensate" not in vars(Charge)
        assert declare(Charge).leaves[0].kind == "step"

    def test_a_step_is_not_both_a_pivot_and_read_only(self) -> None:
        (problem,) = problems_of(with_(Pay, read_only=True))

        assert problem.startswith("step 'Pay': it cannot be both `pivot` and `read_only`")

    def test_after_a_pivot_each_step_can_be_retried(self) -> None:
        assert problems_of(Pay, Reserve, Ship, Charge) == tuple(
            f"step {name!r} stands after the pivot 'Pay' and cannot be retried: after a point of no return a saga "
            "only goes forward, so give it `retry = Retry(...)`, or move it before the pivot"
            for name in ("Reserve", "Charge")
        )

    def test_steps_before_a_pivot_and_the_pivot_itself_need_no_retry(self) -> None:
        assert [leaf.kind for leaf in declare(Reserve, Pay, Ship).leaves] == ["step", "pivot", "step"]

    def test_a_second_pivot_stands_after_the_first(self) -> None:
        (problem,) = problems_of(Pay, with_(Pay, name="PayAgain"))

        assert problem.startswith("step 'PayAgain' stands after the pivot 'Pay' and cannot be retried")


class TestContext:
    """One saga has one context type, which all its steps accept and which can be stored."""

    def test_a_step_of_another_context_is_refused(self) -> None:
        class Repay(Step[Refund]):
            read_only = True

            def act(self, refund: Refund) -> None:
                """Look at it."""

        assert problems_of(Reserve, Repay) == (
            "step 'Repay' works on Refund, and the saga on Order: one saga has one context type",
        )

    def test_a_step_of_a_subclass_is_refused(self) -> None:
        class OnlyRush(Step[RushOrder]):
            read_only = True

            def act(self, order: RushOrder) -> None:
                """Look at it."""

        (problem,) = problems_of(OnlyRush)
        assert problem.startswith("step 'OnlyRush' works on RushOrder, and the saga on Order")

    def test_a_step_of_a_base_class_is_accepted(self) -> None:
        class RushSaga(Saga[RushOrder]):
            steps = [Reserve]

        assert RushSaga().definition.context_type is RushOrder

    def test_a_step_of_a_protocol_is_accepted(self) -> None:
        class Log(Step[HasOrderId]):
            read_only = True

            def act(self, order: HasOrderId) -> None:
                """Log it."""

        assert declare(Log).context_type is Order

    @pytest.mark.parametrize("anything", [object, Any])
    def test_a_step_of_anything_is_accepted(self, anything: Any) -> None:
        class Log(Step[anything]):
            read_only = True

            def act(self, anything: object) -> None:
                """Log it."""

        assert declare(Reserve, Log).context_type is Order

    def test_a_generic_step_is_accepted(self) -> None:
        class Log(Step[T], Generic[T]):
            read_only = True

            def act(self, anything: T) -> None:
                """Log it."""

        class LogRefund(Log[Refund]):
            pass

        assert declare(Log).context_type is Order
        (problem,) = problems_of(LogRefund)
        assert problem.startswith("step 'LogRefund' works on Refund, and the saga on Order")

    def test_a_context_that_cannot_be_stored_is_refused_naming_the_field(self) -> None:
        @define
        class Locked:
            lock: threading.Lock

        with pytest.raises(DefinitionError) as caught:
            Saga[Locked](name="locked", steps=[with_(Look, name="Look")]).definition  # noqa: B018

        assert any("lock" in problem and "cannot be stored" in problem for problem in caught.value.problems)

    @pytest.mark.parametrize("context", [dict[str, int], list[Order], Order | Refund, str, Any])
    def test_a_context_that_cannot_be_put_back_in_place_is_refused(self, context: Any) -> None:
        class Work(Step[Any]):
            retry = Retry()

            def act(self, anything: object) -> None:
                """Work with it."""

            def compensate(self, anything: object) -> None:
                """Undo it."""

        with pytest.raises(DefinitionError) as caught:
            Saga[context](name="work", steps=[Work]).definition  # noqa: B018
        (problem,) = caught.value.problems
        assert "is neither an attrs class nor a dataclass" in problem

    def test_a_response_that_cannot_be_stored_is_refused_naming_the_step(self) -> None:
        class Open(Step[Order, Callable[[], None]]):
            read_only = True

            def act(self, order: Order) -> Callable[[], None]:
                return lambda: None

        (problem,) = problems_of(Open)
        assert problem.startswith("the response of step 'Open' cannot be stored")

    def test_a_response_of_a_generic_step_is_what_its_subclass_says(self) -> None:
        class Many(Step[Order, list[T]], Generic[T]):
            read_only = True

            def act(self, order: Order) -> list[T]:
                return []

        class Orders(Many[Order]):
            pass

        leaf = declare(Orders).leaves[0]
        text = leaf.encode_response([Order("7")])
        assert leaf.decode_response(text) == [Order("7")]

    def test_an_open_context_is_taken_from_the_steps(self) -> None:
        class Bare(Saga):  # type: ignore[type-arg]  # what a user may forget
            steps = [Reserve]

        assert Bare().definition.context_type is Order

    def test_a_context_that_nobody_names_is_refused(self) -> None:
        class Bare(Step):  # type: ignore[type-arg]  # what a user may forget
            read_only = True

            def act(self, context: object) -> None:
                """Look at it."""

        with pytest.raises(DefinitionError, match="its context type is open"):
            type("BareSaga", (Saga,), {"steps": [Bare]})


class TestMadeOnTheSpot:
    """A saga without a class of its own: ``Saga[Order](name=..., steps=[...])``."""

    def test_its_context_is_the_one_in_brackets(self) -> None:
        saga = Saga[Order](name="order", steps=[Reserve])

        assert (saga.definition.name, saga.definition.context_type) == ("order", Order)

    def test_a_wrong_context_is_refused(self) -> None:
        saga = Saga[Refund](name="order", steps=[Reserve])

        with pytest.raises(DefinitionError, match="step 'Reserve' works on Order, and the saga on Refund"):
            saga.definition  # noqa: B018

    def test_what_does_not_depend_on_the_context_is_refused_at_once(self) -> None:
        with pytest.raises(DefinitionError, match="it says nothing about undoing"):
            Saga[Order](name="order", steps=[Forgetful])

    def test_it_is_compiled_once(self) -> None:
        saga = Saga[Order](name="order", steps=[Reserve])

        assert saga.definition is saga.definition

    def test_options_of_one_object_change_that_object_only(self) -> None:
        class OrderSaga(Saga[Order]):
            steps = [Reserve]

        changed = OrderSaga(name="fast", timeout=1.0, version=2, on_undo_failure="continue", grace=3.0)

        assert (changed.definition.name, changed.definition.timeout, changed.definition.version) == ("fast", 1.0, 2)
        assert (changed.definition.on_undo_failure, changed.definition.grace) == ("continue", 3.0)
        plain = OrderSaga().definition
        assert (plain.name, plain.timeout, plain.version, plain.on_undo_failure) == ("OrderSaga", None, 1, "park")


class TestSubclasses:
    """A saga may be derived from another."""

    def test_steps_are_inherited(self) -> None:
        class OrderSaga(Saga[Order]):
            steps = [Reserve]

        class Patient(OrderSaga):
            timeout = 60.0

        definition = Patient().definition
        assert (definition.name, definition.timeout, definition.context_type) == ("Patient", 60.0, Order)
        assert [leaf.name for leaf in definition.leaves] == ["Reserve"]

    def test_steps_may_be_extended(self) -> None:
        class OrderSaga(Saga[Order]):
            steps = [Reserve]

        class Longer(OrderSaga):
            steps = [*OrderSaga.steps, Charge]

        assert [leaf.path for leaf in Longer().definition.leaves] == ["1", "2"]
        assert len(OrderSaga().definition.leaves) == 1

    def test_a_class_is_compiled_once(self) -> None:
        class OrderSaga(Saga[Order]):
            steps = [Reserve]

        assert OrderSaga().definition is OrderSaga().definition

    def test_it_is_refused_when_the_class_is_made(self) -> None:
        with pytest.raises(DefinitionError, match="saga 'OrderSaga' cannot be declared"):

            class OrderSaga(Saga[Order]):
                steps = [Forgetful]


SPANS = [0, -1.0, math.nan, math.inf, 1e10, 10**400, "5", True]


class TestValues:
    """Options that cannot work are refused where they are declared."""

    @pytest.mark.parametrize("value", SPANS)
    @pytest.mark.parametrize("name", ["timeout", "grace"])
    def test_a_span_of_a_saga_is_a_positive_number_of_seconds(self, name: str, value: object) -> None:
        assert problems_of(Reserve, **{name: value}) == (
            f"{name}={value!r} must be a number of seconds greater than 0, up to 1e+09",
        )

    @pytest.mark.parametrize("value", SPANS)
    def test_the_timeout_of_a_step_is_a_positive_number_of_seconds(self, value: object) -> None:
        assert problems_of(with_(Reserve, timeout=value)) == (
            f"step 'Reserve': timeout={value!r} must be a number of seconds greater than 0, up to 1e+09",
        )

    @pytest.mark.parametrize("value", [3, Retry, "twice", [Retry()]])
    @pytest.mark.parametrize("name", ["retry", "compensate_retry"])
    def test_a_policy_of_a_step_is_a_retry(self, name: str, value: object) -> None:
        assert problems_of(with_(Reserve, **{name: value})) == (
            f"step 'Reserve': {name}={value!r} must be a Retry, such as `Retry(attempts=3)`",
        )

    def test_the_policy_of_a_saga_is_a_retry(self) -> None:
        assert problems_of(Reserve, compensate_retry=3) == (
            "compensate_retry=3 must be a Retry, such as `Retry(attempts=3)`",
        )

    @pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None])
    def test_a_version_is_a_whole_number_from_1(self, value: object) -> None:
        assert problems_of(Reserve, version=value) == (f"version={value!r} must be a whole number, 1 or more",)

    def test_a_version_fits_into_64_bits(self) -> None:
        assert declare(Reserve, version=2**63 - 1).version == 2**63 - 1
        (problem,) = problems_of(Reserve, version=2**63)
        assert problem.endswith("is more than a store can keep: give at most 9223372036854775807")

    @pytest.mark.parametrize("value", ["stop", "", None, True])
    def test_on_undo_failure_is_one_of_two_words(self, value: object) -> None:
        assert problems_of(Reserve, on_undo_failure=value) == (
            f'on_undo_failure={value!r} must be "park" or "continue"',
        )

    @pytest.mark.parametrize("value", [NotDone, [NotDone], (NotDone, "CardDeclined"), (NotDone(),), None])
    def test_not_done_on_is_a_tuple_of_exception_types(self, value: object) -> None:
        assert problems_of(with_(Reserve, not_done_on=value)) == (
            "step 'Reserve': `not_done_on` must be a tuple of exception types, such as `(CardDeclined,)`",
        )


class TestMessage:
    """All that is wrong is said at once, and the saga is shown."""

    def test_it_lists_all_problems_of_the_saga_its_steps_their_order_and_their_contexts(self) -> None:
        class Repay(Step[Refund]):
            timeout = -1.0

            def act(self, refund: Refund) -> None:
                """Give it back."""

        class Open(Step[Order, threading.Lock]):
            pivot = True

            def act(self, order: Order) -> threading.Lock:
                return threading.Lock()

        class LookAtRefund(Step[Refund]):
            read_only = True

            def act(self, refund: Refund) -> None:
                """Look at it."""

        problems = problems_of(Open, Repay, LookAtRefund, "Ship", version=0)
        words = [
            "version=0 must be",
            "step 'Repay': it says nothing about undoing",
            "step 'Repay': timeout=-1.0",
            "'Ship' is no step",
            "step 'Repay' stands after the pivot 'Open'",
            "step 'LookAtRefund' stands after the pivot 'Open'",
            "step 'Repay' works on Refund",
            "step 'LookAtRefund' works on Refund",
            "the response of step 'Open' cannot be stored",
        ]
        assert len(problems) == len(words)
        assert [problem[: len(word)] for problem, word in zip(problems, words, strict=True)] == words

    def test_it_shows_the_whole_saga(self) -> None:
        with pytest.raises(DefinitionError) as caught:
            declare(Reserve, with_(Look, atomic=True), Pay, "Ship", Forgetful)

        assert caught.value.outline == (
            "steps:\n  1. Reserve\n  2. Look (read_only, atomic)\n  3. Pay (pivot)\n  4. 'Ship'\n  5. Forgetful"
        )
        assert str(caught.value).startswith("saga 'OrderSaga' cannot be declared:\n  - 'Ship' is no step")
        assert str(caught.value).endswith(caught.value.outline)


def test_a_probe_is_optional() -> None:
    class Asked(Reserve):
        def probe(self, order: Order) -> Outcome:
            return Outcome.DONE

    assert [leaf.probes for leaf in declare(Reserve, Asked).leaves] == [False, True]
