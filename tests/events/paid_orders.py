"""An order that is paid for: what most tests of relays record."""

from __future__ import annotations

from attrs import define

from anysaga import Step, current_step


@define
class Order:
    number: int = 1


@define
class Paid:
    number: int


class Pay(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Paid(order.number))
