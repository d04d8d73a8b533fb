"""The sagas that are made to crash. Each step calls the world, which is set for each run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeAlias

import anyio
from attrs import define
from point_world import World

from anysaga import NotDone, Outcome, Retry, Saga, SagaState, Step, checkpoint, current_step

WORLD: ContextVar[World] = ContextVar("world")
AT_ONCE = Retry(attempts=3, delay=0)
PATIENT = Retry(attempts=99, delay=0)
WELL, BACK = SagaState.COMPLETED, SagaState.COMPENSATED


@define
class Trip:
    seen: list[str]


class Plain(Step[Trip, str]):
    """Writes into the context before and after its effect, so that a wrong context shows."""

    async def act(self, trip: Trip) -> str:
        name = current_step().step_name
        before = Trip(list(trip.seen))
        trip.seen.append(f"begin {name}")
        await WORLD.get().act(before)
        trip.seen.append(f"end {name}")
        return name

    async def compensate(self, trip: Trip) -> None:
        await WORLD.get().undo(trip)
        trip.seen.append(f"undo {current_step().step_name}")


class First(Plain):
    name = "first"


class Second(Plain):
    name = "second"


class Third(Plain):
    name = "third"


class Failing(Plain):
    name = "failing"

    async def act(self, trip: Trip) -> str:
        await super().act(trip)
        raise ConnectionError("the answer was lost")


class Refusing(Plain):
    name = "refusing"

    async def act(self, trip: Trip) -> str:
        raise NotDone("no room")


class Stubborn(Failing):
    name = "stubborn"
    retry = AT_ONCE


class Lucky(Plain):
    name = "lucky"
    retry = PATIENT

    async def act(self, trip: Trip) -> str:
        answer = await super().act(trip)
        if current_step().attempt == 1:
            raise ConnectionError("once")
        return answer


class Probed(Plain):
    name = "probed"

    async def probe(self, trip: Trip) -> Outcome:
        return Outcome.DONE if current_step().key in WORLD.get().live else Outcome.NOT_DONE


class Saving(Plain):
    name = "saving"

    async def act(self, trip: Trip) -> str:
        answer = await super().act(trip)
        await checkpoint()
        WORLD.get().fuse.point()
        trip.seen.append("after saving")
        return answer


class Threaded(Step[Trip]):
    name = "threaded"

    def act(self, trip: Trip) -> None:
        anyio.from_thread.run(WORLD.get().act, trip)
        trip.seen.append("end threaded")

    def compensate(self, trip: Trip) -> None:
        anyio.from_thread.run(WORLD.get().undo, trip)


class Sticky(Plain):
    name = "sticky"

    async def compensate(self, trip: Trip) -> None:
        if current_step().attempt == 1:
            trip.seen.append("thrown away")
            raise ConnectionError("not yet")
        await super().compensate(trip)


class NoReturn(Plain):
    name = "no-return"
    pivot = True
    retry = PATIENT


class After(Plain):
    name = "after"
    retry = PATIENT


class Shape(Saga[Trip]):
    """A saga and the end it has without a crash; with one, too, unless it `may_turn_back`."""

    compensate_retry = PATIENT
    end = WELL
    may_turn_back = False
    world: type[World] = World

    @staticmethod
    def begin() -> Trip:
        """The context that the saga begins with."""
        return Trip([])


AnyShape: TypeAlias = Any
"""A class like `Shape`, of any context."""


class Well(Shape):
    steps = [First, Second, Third]


class FailsAtTheEnd(Shape):
    steps = [First, Second, Failing]
    end = BACK


class IsRefused(Shape):
    steps = [First, Second, Refusing]
    end = BACK


class RetriesInVain(Shape):
    steps = [First, Stubborn]
    end = BACK


class RetriesWell(Shape):
    steps = [First, Lucky, Third]


class AsksBack(Shape):
    """Its probe says that an attempt that was lost is not done, and it has no retry."""

    steps = [First, Probed, Third]
    may_turn_back = True


class SavesInTheMiddle(Shape):
    steps = [First, Saving, Failing]
    end = BACK


class UsesThreads(Shape):
    steps = [First, Threaded, Failing]
    end = BACK


class UndoneWithTrouble(Shape):
    steps = [Sticky, Second, Failing]
    end = BACK


class HasAPivot(Shape):
    steps = [First, NoReturn, After]


SHAPES: list[type[Shape]] = [
    Well,
    FailsAtTheEnd,
    IsRefused,
    RetriesInVain,
    RetriesWell,
    AsksBack,
    SavesInTheMiddle,
    UsesThreads,
    UndoneWithTrouble,
    HasAPivot,
]
