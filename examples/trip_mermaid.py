"""A saga as pictures: how its steps are called, what it consists of, and the ways through it.

You see three Mermaid diagrams. Paste them into a Markdown page between ```mermaid and ```, where GitHub, GitLab and
mkdocs draw them, or into https://mermaid.live. Nothing is run for it, and no storage is needed.
"""

from attrs import define

from anysaga import CircuitBreaker, Fallback, Parallel, Retry, Saga, SagaMermaid, Step


@define
class Trip:
    to: str
    hotel: str = ""
    flight: str = ""


@define
class Booking:
    number: str


class Book(Step[Trip, Booking]):
    """What all bookings here have in common."""

    timeout = 5.0

    async def act(self, trip: Trip) -> Booking:
        return Booking("17")

    async def compensate(self, trip: Trip) -> None: ...


class BookHotel(Book): ...


class BookHostel(Book): ...


class BookFlight(Book):
    retry = Retry(attempts=3)


class Pay(Step[Trip]):
    pivot = True

    async def act(self, trip: Trip) -> None: ...


class SendTickets(Step[Trip]):
    read_only = True
    retry = Retry(attempts=10)

    async def act(self, trip: Trip) -> None: ...


class TripSaga(Saga[Trip]):
    timeout = 60.0
    steps = (
        Parallel(
            Fallback(BookHotel, BookHostel, failure_exceptions=(ConnectionError,), circuit_breaker=CircuitBreaker()),
            BookFlight,
        ),
        Pay,
        SendTickets,
    )


if __name__ == "__main__":
    drawn = SagaMermaid(TripSaga)
    print(drawn.sequence(), drawn.class_diagram(), drawn.flow(), sep="\n")
