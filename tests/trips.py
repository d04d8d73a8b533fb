"""Sagas with branches to test the engine with: each step writes a field of its own, and what it saw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from attrs import define, field

from anysaga import Fallback, Parallel, Retry, Saga, Step
from anysaga.abc import Storage

AT_ONCE = Retry(attempts=3, delay=0.0)


@define
class Hotel:
    """A part of the context that is an object of its own."""

    name: str
    nights: int = 1


@define
class Trip:
    """The context. `total` is one of those fields that no constructor takes."""

    a: str = ""
    b: str = ""
    c: str = ""
    hotel: Hotel = field(factory=lambda: Hotel("none"))
    stops: list[str] = field(factory=list)
    total: int = field(default=0, init=False)

    def seen(self) -> str:
        return f"{self.a}{self.b}{self.c}"


Deed = Callable[[Trip], Awaitable[None]]


async def _nothing(trip: Trip) -> None:
    """Do no more than what every step does."""


class Book(Step[Trip, str]):
    """A step: writes `act <name>` into `did` and its name into the field `into`; then its deeds.

    Everything that a step class can say may be given as an option: ``retry=AT_ONCE``, ``timeout=1.0``.
    """

    compensate_retry = AT_ONCE

    def __init__(
        self,
        name: str,
        did: list[str],
        *,
        into: str | None = None,
        act: Deed = _nothing,
        undo: Deed = _nothing,
        **options: Any,
    ) -> None:
        self.name = name
        self.did = did
        self.into = into or name[0]
        self._act = act
        self._undo = undo
        for option, value in options.items():
            setattr(self, option, value)

    async def act(self, trip: Trip) -> str:
        self.did.append(f"act {self.name}")
        setattr(trip, self.into, self.name)
        await self._act(trip)
        return f"{self.name} booked"

    async def compensate(self, trip: Trip) -> None:
        self.did.append(f"undo {self.name}")
        await self._undo(trip)


def trip_of(storage: Storage | None, *steps: Step[Any, Any] | Fallback | Parallel, **options: Any) -> Saga[Trip]:
    """A saga named "trip" of these steps."""
    return Saga[Trip](name="trip", steps=list(steps), storage=storage, **options)


def raises(error: BaseException) -> Deed:
    """A deed that fails, each time in the same way."""

    async def deed(trip: Trip) -> None:
        raise error

    return deed


def waits_for(event: anyio.Event) -> Deed:
    """A deed that goes on once something has happened."""

    async def deed(trip: Trip) -> None:
        await event.wait()

    return deed


def tells(event: anyio.Event) -> Deed:
    """A deed that makes something happen."""

    async def deed(trip: Trip) -> None:
        event.set()

    return deed


async def for_ever(trip: Trip) -> None:
    """A deed that never ends by itself."""
    await anyio.sleep_forever()
