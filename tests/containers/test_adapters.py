"""What is special about the container of each package, and how it is recognised."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Annotated, Any

import anyio
import di
import dishka
import pytest
import svcs
from container_kits import Bank, Charge, Order, World
from dependency_injector import containers, providers, resources
from di.dependent import Dependent

from anysaga import InvalidArgument, MissingPackage, NotProvided, Saga, Step
from anysaga import containers as adapters
from anysaga._wiring import container_of, wire
from anysaga.abc import Scope

NAMES = {
    "DiContainer": "di",
    "DishkaContainer": "dishka",
    "SvcsContainer": "svcs",
    "DependencyInjectorContainer": "dependency-injector",
}


class Services(containers.DeclarativeContainer):
    """Nothing in it."""


class ChargeSaga(Saga[Order]):
    steps = (Charge,)


class Car:
    """A base class."""


class FastCar(Car): ...


class SlowCar(Car): ...


class Engine(resources.Resource[Bank]):
    def init(self) -> Bank:
        return Bank(World())


class SlowEngine(resources.AsyncResource[Bank]):
    async def init(self) -> Bank:
        return Bank(World())


def make_car(bank: Bank) -> Car:
    return FastCar()


async def make_slowly() -> Bank:
    return Bank(World())


async def _cancel_when_all_wait(scope: anyio.CancelScope, then: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()
    await anyio.wait_all_tasks_blocked()
    then.set()


def unknown() -> Missing:  # type: ignore[name-defined]  # noqa: F821 - what is not known at run time
    """Answers something that nobody can look up."""


def test_raw_containers_are_adapted() -> None:
    """A container of a known package is accepted wherever a container is, by type checkers too."""
    sagas = [
        ChargeSaga(container=di.Container()),
        ChargeSaga(container=dishka.make_async_container()),
        ChargeSaga(container=svcs.Registry()),
        ChargeSaga(container=Services),
        ChargeSaga(container=Services()),
    ]
    made = [type(saga.container).__name__ for saga in sagas]
    assert made == [*NAMES, "DependencyInjectorContainer"]


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_refuses_what_it_cannot_adapt(name: str) -> None:
    """The error says what to give."""
    with pytest.raises(InvalidArgument, match="container="):
        getattr(adapters, name)(17)


class NamesItsScope:
    """Has a `scope`, which nobody can call."""

    scope = "request"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (di.Container, "made and filled"),
        (svcs.Registry, "made and filled"),
        (svcs.Container(svcs.Registry()), "give a svcs.Registry"),
        (dishka.make_container(), "`dishka.make_async_container` makes"),
        (dishka.Provider(), "`dishka.make_async_container` makes"),
        (NamesItsScope(), "a container of di, dishka, svcs or dependency-injector"),
    ],
    ids=["di class", "svcs class", "svcs container", "dishka without await", "dishka provider", "another"],
)
def test_what_is_mistaken_for_a_container_is_refused_where_it_is_given(given: Any, words: str) -> None:
    """A class in the place of its object, or what a package has beside its container for sagas."""
    with pytest.raises(InvalidArgument, match="container=") as caught:
        ChargeSaga(container=given)
    assert words in caught.value.expected


@pytest.mark.parametrize("package", NAMES.values())
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package and the extra that brings it."""
    module = f"anysaga.containers._{package.replace('-', '_')}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    for loaded in [each for each in sys.modules if each.partition(".")[0] == package.replace("-", "_")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(MissingPackage) as caught:
        import_module(module)
    assert (caught.value.package, caught.value.extra) == (package, package)


def test_there_are_no_other_adapters() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OtherContainer'"):
        _ = adapters.OtherContainer  # type: ignore[attr-defined]  # so type checkers say as well


def test_no_package_is_imported_to_recognise_its_containers() -> None:
    """A program that uses none of them does not pay for them."""
    script = """
import sys
from anysaga._wiring import container_of
container_of({})
try:
    container_of(17)
except ValueError:
    pass
print(sorted({"di", "dishka", "svcs", "dependency_injector"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.anyio
class TestDi:
    async def test_it_makes_no_empty_texts(self) -> None:
        """Di would call `str()` for a text that nobody provides."""

        class Named:
            def __init__(self, name: str) -> None:
                self.name = name

        async with container_of(di.Container()).scope() as scope:
            with pytest.raises(NotProvided, match=r"no str, which .*Named"):
                await scope.get(Named)

    async def test_an_outer_state_is_shared(self) -> None:
        """What belongs to a scope of the application is made once for all sagas."""
        container = di.Container()
        container.bind(di.bind_by_type(Dependent(make_slowly, scope="app"), Bank))
        async with di.ScopeState().enter_scope("app") as state:
            adapter = adapters.DiContainer(container, state=state)
            banks = set()
            for _ in range(2):
                async with adapter.scope() as scope:
                    banks.add((await wire(Charge, scope)).bank)
        assert len(banks) == 1


@pytest.mark.anyio
class TestDishka:
    async def test_locks_of_asyncio_are_refused_on_trio(self, anyio_backend_name: str) -> None:
        """They would fail as soon as two sagas wait for each other; the error says which lock to give."""
        saga = ChargeSaga(container=dishka.make_async_container())
        expected = "lock_factory=anyio.Lock" if anyio_backend_name == "trio" else "no Bank"
        with pytest.raises((InvalidArgument, NotProvided), match=expected):
            await saga.run(Order())

    async def test_two_tasks_may_ask_one_scope(self) -> None:
        """They get the same thing, though making it waits."""
        banks: list[Bank] = []

        async def ask(scope: Scope) -> None:
            banks.append(await scope.get(Bank))

        async def make() -> Bank:
            await anyio.lowlevel.checkpoint()
            return Bank(World())

        provider = dishka.Provider(scope=dishka.Scope.REQUEST)
        provider.provide(make)
        container = container_of(dishka.make_async_container(provider, lock_factory=anyio.Lock))
        async with container.scope() as scope, anyio.create_task_group() as group:
            group.start_soon(ask, scope)
            group.start_soon(ask, scope)
        assert banks[0] is banks[1]

    async def test_what_all_share_is_made_once(self) -> None:
        """Sagas that wait for something of the application's scope wait for each other, on both loops."""
        made: list[Bank] = []

        async def make() -> Bank:
            await anyio.lowlevel.checkpoint()
            made.append(Bank(World(opened=1)))
            return made[-1]

        provider = dishka.Provider(scope=dishka.Scope.APP)
        provider.provide(make)
        saga = ChargeSaga(container=dishka.make_async_container(provider, lock_factory=anyio.Lock))
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(saga.run, Order())
        assert len(made) == 1

    async def test_a_missing_part_of_a_known_step_is_named(self) -> None:
        """It is the part that is missing, not the step."""
        provider = dishka.Provider(scope=dishka.Scope.REQUEST)
        provider.provide(Charge)
        container = dishka.make_async_container(provider, lock_factory=None, skip_validation=True)
        with pytest.raises(NotProvided, match="no Bank"):
            await ChargeSaga(container=container).run(Order())

    async def test_a_step_gets_what_is_of_the_component_that_it_names(self) -> None:
        """And nothing of another one in its place."""

        class Charge(Step[Order]):
            read_only = True

            def __init__(self, bank: Annotated[Bank, dishka.FromComponent("eu")]) -> None:
                self.bank = bank

        home, abroad = Bank(World()), Bank(World())
        provider = dishka.Provider(scope=dishka.Scope.REQUEST)
        provider.provide(lambda: home, provides=Bank)
        european = dishka.Provider(scope=dishka.Scope.REQUEST, component="eu")
        european.provide(lambda: abroad, provides=Bank)
        given = dishka.make_async_container(provider, european, lock_factory=anyio.Lock)
        async with container_of(given).scope() as scope:
            assert (await wire(Charge, scope)).bank is abroad
        given = dishka.make_async_container(provider, lock_factory=anyio.Lock)
        async with container_of(given).scope() as scope:
            with pytest.raises(NotProvided, match="no Bank of component 'eu'"):
                await wire(Charge, scope)


@pytest.mark.anyio
class TestSvcs:
    async def test_services_of_one_type_are_told_apart_by_their_annotations(self) -> None:
        class Charge(Step[Order]):
            read_only = True

            def __init__(self, bank: Annotated[Bank, "eu"]) -> None:
                self.bank = bank

        home, abroad = Bank(World()), Bank(World())
        registry = svcs.Registry()
        registry.register_value(Bank, home)
        registry.register_value(Annotated[Bank, "eu"], abroad)
        async with container_of(registry).scope() as scope:
            assert (await wire(Charge, scope)).bank is abroad


@pytest.mark.anyio
class TestDependencyInjector:
    async def test_a_container_is_shared_and_stays_open(self) -> None:
        """Its resources are the application's: sagas share them, and do not shut them down."""
        world = World()

        class Shared(containers.DeclarativeContainer):
            bank: Any = providers.Resource(world.plain_bank)

        container = Shared()
        for _ in range(2):
            await ChargeSaga(container=container).run(Order())
        assert world.did == ["open", "act Charge", "act Charge"]
        container.shutdown_resources()

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    @pytest.mark.parametrize("kind", [providers.Singleton, providers.Resource])
    async def test_a_cancelled_saga_keeps_from_nobody_what_all_share(self, anyio_backend: str, kind: Any) -> None:
        """It is still being made when the first one is cancelled; the others, and later ones, have it."""
        goes_on = anyio.Event()

        async def make() -> Bank:
            await goes_on.wait()
            return Bank(World(opened=1))

        class Shared(containers.DeclarativeContainer):
            bank = kind(make)

        saga, first = ChargeSaga(container=Shared()), anyio.CancelScope()
        async with anyio.create_task_group() as group:
            with first:
                group.start_soon(saga.run, Order())
                group.start_soon(_cancel_when_all_wait, first, goes_on)
                await saga.run(Order())
        assert first.cancelled_caught
        await saga.run(Order())

    @pytest.mark.parametrize(
        "provider", [providers.Resource(SlowEngine), providers.Coroutine(make_slowly), providers.Resource(make_slowly)]
    )
    async def test_asynchronous_providers_are_refused_on_trio(self, provider: Any, anyio_backend_name: str) -> None:
        """The package runs them on asyncio alone; there they work."""

        class Slow(containers.DeclarativeContainer):
            bank = provider
            charge = providers.Factory(Charge, bank=provider)

        async with container_of(Slow).scope() as scope:
            if anyio_backend_name == "trio":
                with pytest.raises(InvalidArgument, match="Charge needs an asynchronous provider"):
                    await scope.get(Charge)
            else:
                assert isinstance((await scope.get(Charge)).bank, Bank)

    @pytest.mark.parametrize(
        ("provider", "wanted", "made"),
        [
            (providers.Object(FastCar()), FastCar, FastCar),
            (providers.Object(FastCar()), Car, FastCar),
            (providers.Singleton(SlowCar), Car, SlowCar),
            (providers.Callable(make_car, bank=None), Car, FastCar),
            (providers.Resource(Engine), Bank, Bank),
            (providers.Dependency(instance_of=Car, default=SlowCar()), Car, SlowCar),
        ],
    )
    async def test_providers_are_found_by_type(self, provider: Any, wanted: Any, made: type) -> None:
        """Whatever kind of provider gives the type, also in a nested container."""

        class Inner(containers.DeclarativeContainer):
            unknown: Any = providers.Callable(unknown)
            numbers = providers.List(1, 2)
            one = provider

        class Outer(containers.DeclarativeContainer):
            settings = providers.Configuration()
            inner = providers.Container(Inner)

        for container in (Inner, Outer):
            async with container_of(container).scope() as scope:
                assert type(await scope.get(wanted)) is made

    async def test_two_that_would_do_are_refused(self) -> None:
        """Nobody guesses: the error names both."""

        class Both(containers.DeclarativeContainer):
            fast = providers.Factory(FastCar)
            slow = providers.Factory(SlowCar)

        async with container_of(Both).scope() as scope:
            assert type(await scope.get(SlowCar)) is SlowCar
            with pytest.raises(InvalidArgument, match=r"several providers for Car \(fast, slow\)"):
                await scope.get(Car)
