"""The sagas that are measured: their steps do next to nothing, so that what is left is anysaga."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from attrs import define

from anysaga import Saga, Step
from anysaga.abc import Storage
from benchmarks._harness import at_once, one_by_one

STEPS = 3

MakeStorage = Callable[[], Storage]


@define
class Order:
    """A context of a common size."""

    order_id: str = "order-17"
    items: list[str] = ["tea", "a pot", "two cups"]  # noqa: RUF008  # attrs copies nothing here, and no step changes it
    total: int = 3150
    done: int = 0


class Work(Step[Order, str]):
    """A step that changes the context and answers something."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, order: Order) -> str:
        order.done += 1
        return "answer"

    async def compensate(self, order: Order) -> None:
        order.done -= 1


class Gate(Work):
    """A step that waits until it is opened, and says when so many wait."""

    def __init__(self, name: str, expected: int) -> None:
        super().__init__(name)
        self._expected = expected
        self.crowded = anyio.Event()
        self.opened = anyio.Event()

    async def act(self, order: Order) -> str:
        self._expected -= 1
        if self._expected == 0:
            self.crowded.set()
        await self.opened.wait()
        return await super().act(order)


def saga_of(steps: int, storage: Storage) -> Saga[Any]:
    """A saga of so many steps."""
    return Saga[Order](name=f"of-{steps}", steps=[Work(f"step-{number}") for number in range(steps)], storage=storage)


async def sagas_one_by_one(make: MakeStorage, times: int) -> float:
    """Seconds a saga of three steps, one after the other in one store."""
    async with make() as storage:
        saga = saga_of(STEPS, storage)
        await saga.run(Order())
        return await one_by_one(times, lambda: saga.run(Order()))


async def sagas_at_once(make: MakeStorage, tasks: int, times: int) -> float:
    """Seconds a saga of three steps, so many at once, each task so many one after the other."""
    async with make() as storage:
        saga = saga_of(STEPS, storage)
        await saga.run(Order())
        return await at_once(tasks, times, lambda: saga.run(Order()))
