"""The same bank, provided by each dependency injection package: opened for a saga, and closed after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import di
import svcs
from anyio import Event
from anyio.lowlevel import checkpoint
from attrs import define, field
from dependency_injector import containers, providers
from di.dependent import Dependent
from dishka import Provider, Scope, make_async_container

from anysaga import NotDone, Step


class Nothing(ABC):
    """Nobody provides it."""

    @abstractmethod
    def exist(self) -> None: ...


@define(eq=False)
class World:
    """What happened, in order, and what is to go wrong. `together` is how many sagas wait for each other in `Meet`."""

    did: list[str] = field(factory=list)
    opened: int = 0
    open_fails: bool = False
    close_fails: bool = False
    together: int = 1
    met: list[Bank] = field(factory=list)
    anybody_came: Event = field(factory=Event)
    all_met: Event = field(factory=Event)

    def _opens(self) -> Bank:
        if self.open_fails:
            raise ConnectionError("the bank does not answer")
        self.opened += 1
        self.did.append("open")
        return Bank(self)

    def _closed(self) -> None:
        self.opened -= 1
        self.did.append("close")
        if self.close_fails:
            raise OSError("the line is dead")

    async def bank(self) -> AsyncIterator[Bank]:
        """Open the bank for a saga; closing it waits for something."""
        bank = self._opens()
        try:
            yield bank
        finally:
            await checkpoint()
            self._closed()

    def plain_bank(self) -> Iterator[Bank]:
        """The same without waiting."""
        bank = self._opens()
        try:
            yield bank
        finally:
            self._closed()


@define(eq=False)
class Bank:
    world: World


@define
class Order:
    declined: bool = False


class AtTheBank(Step[Order]):
    """What all these steps have in common: they say what they do, and that the bank is open meanwhile."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def _say(self, what: str) -> None:
        assert self.bank.world.opened > 0
        self.bank.world.did.append(f"{what} {type(self).__name__}")

    async def act(self, order: Order) -> None:
        self._say("act")

    async def compensate(self, order: Order) -> None:
        await checkpoint()
        self._say("undo")


class Charge(AtTheBank):
    """The containers know this one."""


class Ship(AtTheBank):
    """The containers do not know this one, but what it needs."""

    async def act(self, order: Order) -> None:
        self._say("act")
        if order.declined:
            raise NotDone("declined")


class Meet(AtTheBank):
    """Goes on when `together` sagas are here."""

    async def act(self, order: Order) -> None:
        world = self.bank.world
        world.met.append(self.bank)
        world.anybody_came.set()
        if len(world.met) == world.together:
            world.all_met.set()
        await world.all_met.wait()


class Lost(Step[Order]):
    read_only = True

    def __init__(self, nothing: Nothing) -> None:
        self.nothing = nothing

    async def act(self, order: Order) -> None: ...


def di_container(world: World, backend: str) -> Any:
    container = di.Container()
    container.bind(di.bind_by_type(Dependent(world.bank, scope="request"), Bank))
    return container


def dishka_container(world: World, backend: str) -> Any:
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(world.bank, provides=Bank)
    provider.provide(Charge)
    return make_async_container(provider, lock_factory=anyio.Lock)


def svcs_registry(world: World, backend: str) -> Any:
    async def charge(container: svcs.Container) -> Charge:
        return Charge(await container.aget(Bank))

    registry = svcs.Registry()
    registry.register_factory(Bank, world.bank)
    registry.register_factory(Charge, charge)
    return registry


def injector_class(world: World, backend: str) -> Any:
    """A container class of dependency-injector, whose asynchronous providers know asyncio only."""

    class Services(containers.DeclarativeContainer):
        bank: Any = providers.Resource(world.bank if backend == "asyncio" else world.plain_bank)
        charge = providers.Factory(Charge, bank=bank)

    return Services


KITS: dict[str, Callable[[World, str], Any]] = {
    "di": di_container,
    "dishka": dishka_container,
    "svcs": svcs_registry,
    "dependency-injector": injector_class,
}
