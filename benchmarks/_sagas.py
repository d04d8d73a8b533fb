"""The sagas that are measured: their steps do next to nothing, so that what is left is anysaga."""

from __future__ import annotations

from typing import Any

from attrs import define

from anysaga import Saga, Step
from anysaga.abc import Storage


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


def saga_of(steps: int, storage: Storage) -> Saga[Any]:
    """A saga of so many steps."""
    return Saga[Order](name=f"of-{steps}", steps=[Work(f"step-{number}") for number in range(steps)], storage=storage)
