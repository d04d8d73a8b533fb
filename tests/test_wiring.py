"""How steps get what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Generic, Optional, TypeVar

import pytest

from anysaga import InvalidArgument, NotProvided, Step
from anysaga._wiring import MappingContainer, container_of, wire

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Bank:
    pass


class Clock:
    pass


class Plain(Step[int]):
    read_only = True

    def act(self, number: int) -> None:
        """Do nothing."""


class Charge(Plain):
    def __init__(self, bank: Bank, clock: Clock) -> None:
        self.bank = bank
        self.clock = clock


class Patient(Plain):
    def __init__(self, bank: Bank, clock: Clock | None = None, *, tries: int = 3) -> None:
        self.bank = bank
        self.clock = clock
        self.tries = tries


class Greedy(Plain):
    def __init__(self, *banks: Bank, **clocks: Clock) -> None:
        self.banks = banks
        self.clocks = clocks


class Strict(Plain):
    def __init__(self, bank: Bank, clock: Clock | None = None, /, *, tries: int = 3) -> None:
        self.bank = bank
        self.clock = clock
        self.tries = tries


NOBODY = Bank()


class Defaulted(Plain):
    def __init__(self, bank: Bank = NOBODY) -> None:
        self.bank = bank


class Vault(Bank):
    """What the container's bank needs, and it has not."""


class Maybe(Plain):
    def __init__(self, bank: Bank | None = None) -> None:
        self.bank = bank


class Required(Plain):
    def __init__(self, bank: Optional[Bank]) -> None:  # noqa: UP045 - as many write it
        self.bank = bank


class European(Plain):
    def __init__(self, bank: Annotated[Bank, "eu"]) -> None:
        self.bank = bank


class MaybeEuropean(Plain):
    def __init__(self, bank: Annotated[Bank, "eu"] | None = None) -> None:
        self.bank = bank


class Documented(Plain):
    def __init__(self, bank: Annotated[Bank, ["no key of a mapping"]]) -> None:
        self.bank = bank


class Either(Plain):
    def __init__(self, bank: Bank | Clock | None = None) -> None:
        self.bank = bank


class Store(Generic[T]):
    pass


class Keep(Plain):
    def __init__(self, store: Store[int]) -> None:
        self.store = store


class Derived(Charge):
    """It takes over the constructor of its base."""


class Theirs:
    """A container of a user: knows what it is given, and counts its scopes."""

    def __init__(self, **known: object) -> None:
        self.known = known
        self.open = 0

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Theirs]:
        self.open += 1
        yield self
        self.open -= 1

    async def get(self, wanted: type[T], /) -> T:
        name = getattr(wanted, "__qualname__", str(wanted))
        if name not in self.known:
            raise NotProvided(name, "somebody")
        found: Any = self.known[name]
        if isinstance(found, Exception):
            raise found
        made: T = await self.get(found) if isinstance(found, type) else found
        return made


async def wired(step: type[T], given: Any) -> T:
    async with container_of(given).scope() as scope:
        return await wire(step, scope)


class TestMapping:
    """A plain ``{type: factory}``."""

    async def test_each_scope_makes_each_thing_once(self) -> None:
        container = container_of({Bank: Bank})
        async with container.scope() as one, container.scope() as other:
            assert await one.get(Bank) is await one.get(Bank)
            assert await one.get(Bank) is not await other.get(Bank)

    async def test_nothing_is_made_before_it_is_asked_for(self) -> None:
        made = []
        async with container_of({Bank: lambda: made.append("bank")}).scope() as scope:
            assert made == []
            await scope.get(Bank)

        assert made == ["bank"]

    async def test_a_factory_may_be_async(self) -> None:
        bank = Bank()

        async def make() -> Bank:
            return bank

        async with container_of({Bank: make}).scope() as scope:
            assert await scope.get(Bank) is bank

    async def test_a_factory_that_answers_none_is_asked_once(self) -> None:
        asked = []
        async with container_of({Bank: lambda: asked.append(1)}).scope() as scope:
            await scope.get(Bank)
            await scope.get(Bank)

        assert asked == [1]

    async def test_what_it_does_not_know_is_named(self) -> None:
        async with container_of({}).scope() as scope:
            with pytest.raises(NotProvided, match="the container has no Bank"):
                await scope.get(Bank)

    async def test_a_factory_that_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="give a function that makes a Bank"):
            MappingContainer({Bank: "bank"})  # type: ignore[dict-item]  # what is refused


class TestContainerOf:
    """What may be given as a container."""

    async def test_one_of_theirs_is_taken_as_it_is(self) -> None:
        theirs = Theirs()

        assert container_of(theirs) is theirs

    async def test_none_knows_nothing(self) -> None:
        assert isinstance(await wired(Plain, None), Plain)

    @pytest.mark.parametrize("wrong", [[Bank], "services", Bank, 3])
    async def test_anything_else_is_refused(self, wrong: Any) -> None:
        with pytest.raises(InvalidArgument, match="give a mapping"):
            container_of(wrong)


class TestWire:
    """Making a step."""

    async def test_a_step_that_needs_nothing_is_made(self) -> None:
        assert type(await wired(Plain, {})) is Plain

    @pytest.mark.parametrize("step", [Charge, Derived])
    async def test_its_constructor_is_filled_by_type(self, step: type[Charge]) -> None:
        made = await wired(step, {Bank: Bank, Clock: Clock})

        assert (type(made), type(made.bank), type(made.clock)) == (step, Bank, Clock)

    async def test_two_steps_of_a_scope_share_what_they_need(self) -> None:
        async with container_of({Bank: Bank, Clock: Clock}).scope() as scope:
            assert (await wire(Charge, scope)).bank is (await wire(Derived, scope)).bank

    async def test_a_step_that_the_container_knows_is_made_by_it(self) -> None:
        bank, clock = Bank(), Clock()
        made = await wired(Charge, {Charge: lambda: Charge(bank, clock)})

        assert (made.bank, made.clock) == (bank, clock)

    async def test_a_default_is_kept_where_the_container_has_nothing(self) -> None:
        made = await wired(Patient, {Bank: Bank})

        assert (type(made.bank), made.clock, made.tries) == (Bank, None, 3)

    async def test_a_default_gives_way_to_what_the_container_has(self) -> None:
        made = await wired(Patient, {Bank: Bank, int: lambda: 7})

        assert made.tries == 7

    async def test_a_parameter_without_a_default_that_cannot_be_filled_is_named(self) -> None:
        with pytest.raises(NotProvided) as caught:
            await wired(Charge, {Bank: Bank})

        assert (caught.value.wanted, caught.value.needed_by) == ("Clock", "Charge(clock)")

    @pytest.mark.parametrize("step", [Maybe, Required, European, MaybeEuropean, Documented])
    async def test_what_is_optional_or_annotated_is_looked_up_by_its_type(self, step: type[Maybe]) -> None:
        assert type((await wired(step, {Bank: Bank})).bank) is Bank
        assert type((await wired(step, Theirs(Bank=Bank()))).bank) is Bank

    @pytest.mark.parametrize("step", [Maybe, MaybeEuropean, Either])
    async def test_what_is_optional_is_left_out_where_nobody_provides_it(self, step: type[Maybe]) -> None:
        assert (await wired(step, {Vault: Vault})).bank is None

    @pytest.mark.parametrize("step", [Required, European, Documented])
    async def test_what_has_no_default_is_missed_by_its_type(self, step: type[Maybe]) -> None:
        with pytest.raises(NotProvided, match=f"no Bank, which {step.__name__}"):
            await wired(step, {Vault: Vault})

    async def test_what_it_lacks_to_make_something_optional_is_named(self) -> None:
        with pytest.raises(NotProvided, match="no Vault"):
            await wired(Maybe, Theirs(Bank=Vault))

    @pytest.mark.parametrize(
        ("step", "kind"),
        [(Maybe, Bank | None), (European, Annotated[Bank, "eu"]), (MaybeEuropean, Annotated[Bank, "eu"])],
    )
    async def test_the_very_type_of_an_annotation_is_looked_up_first(self, step: type[Maybe], kind: Any) -> None:
        """Containers tell several of one type apart by that."""
        assert type((await wired(step, {Bank: Bank, kind: Vault})).bank) is Vault

    async def test_parameters_may_have_no_names_for_callers(self) -> None:
        made = await wired(Strict, {Bank: Bank, int: lambda: 7})

        assert (type(made.bank), made.clock, made.tries) == (Bank, None, 7)

    async def test_a_generic_type_is_looked_up_and_named_with_its_arguments(self) -> None:
        assert type((await wired(Keep, {Store[int]: Store})).store) is Store
        with pytest.raises(NotProvided) as caught:
            await wired(Keep, {Store: Store})
        assert caught.value.wanted.endswith("Store[int]")

    async def test_open_ended_parameters_are_left_out(self) -> None:
        made = await wired(Greedy, {Bank: Bank, Clock: Clock})

        assert (made.banks, made.clocks) == ((), {})

    async def test_an_error_of_a_factory_reaches_the_caller(self) -> None:
        def broken() -> Bank:
            raise ConnectionError("no bank today")

        with pytest.raises(ConnectionError, match="no bank today"):
            await wired(Charge, {Bank: broken, Clock: Clock})


class TestTheirs:
    """A user's own container."""

    async def test_it_makes_the_step_if_it_knows_it(self) -> None:
        charge = Charge(Bank(), Clock())

        assert await wired(Charge, Theirs(Charge=charge)) is charge

    async def test_it_fills_the_constructor_if_it_does_not(self) -> None:
        bank, clock = Bank(), Clock()
        made = await wired(Charge, Theirs(Bank=bank, Clock=clock))

        assert (made.bank, made.clock) == (bank, clock)

    @pytest.mark.parametrize("step", [Charge, Defaulted])
    async def test_what_it_lacks_to_make_what_the_step_needs_is_named(self, step: type[Plain]) -> None:
        """It knows that, and cannot make it; no default takes its place."""
        with pytest.raises(NotProvided, match="no Vault"):
            await wired(step, Theirs(Bank=Vault, Clock=Clock()))

    async def test_what_it_lacks_to_make_the_step_is_not_taken_for_the_step(self) -> None:
        """It knows the step and cannot make it: that is said, instead of trying to make it in another way."""
        lacking = NotProvided("Clock", "Charge")

        with pytest.raises(NotProvided) as caught:
            await wired(Charge, Theirs(Charge=lacking, Bank=Bank(), Clock=Clock()))
        assert caught.value is lacking
