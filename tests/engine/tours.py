"""A saga to test with: steps that write down what they do, and do what their context tells them."""

from __future__ import annotations

from contextvars import ContextVar

import anyio
from attrs import define, field

from anysaga import NotDone, Retry, Saga, Step, current_step, secret

DONE: ContextVar[list[str]] = ContextVar("done")
AT_ONCE = Retry(attempts=3, delay=0)


@define
class Tour:
    fail: str = ""
    notes: list[str] = field(factory=list)
    card: str = secret(default="4111-1111")


def write(what: str) -> None:
    DONE.get().append(what)


class Book(Step[Tour, str]):
    """Books, and fails as the tour says: ``clean``, ``dirty``, ``slow``."""

    compensate_retry = AT_ONCE

    async def act(self, tour: Tour) -> str:
        name = current_step().step_name
        write(f"act {name}")
        tour.notes.append(name)
        if tour.fail == f"{name} clean":
            raise NotDone("full")
        if tour.fail == f"{name} dirty":
            raise ConnectionError(f"lost while paying with {tour.card}")
        if tour.fail == f"{name} slow":
            await anyio.sleep_forever()
        return f"{name} booked"

    async def compensate(self, tour: Tour) -> None:
        write(f"undo {current_step().step_name}")
        if tour.fail.startswith(f"undo {current_step().step_name}"):
            raise OSError("the line is dead")


class Hotel(Book):
    name = "hotel"


class Train(Book):
    name = "train"


class Museum(Book):
    name = "museum"


class TourSaga(Saga[Tour]):
    steps = [Hotel, Train, Museum]


class Ticket(Book):
    """A point of no return."""

    name = "ticket"
    pivot = True


class Guide(Book):
    name = "guide"
    retry = AT_ONCE


class FixedTour(Saga[Tour]):
    steps = [Hotel, Ticket, Guide]
