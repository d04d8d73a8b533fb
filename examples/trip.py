"""A hotel, a flight and a car, booked at the same time: all of them, or none.

You see two trips. The first is booked. On the way to the second there is no car left, so the hotel and the flight, of
which one may still be on its way, are cancelled, and so is the seat on the train to the airport that came before them.
"""

from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import MemoryStorage, NotDone, Parallel, Saga, Step


@define
class Trip:
    to: str
    train: str = ""
    hotel: str = ""
    flight: str = ""
    car: str = ""


class BookTrain(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        trip.train = "seat 12"

    async def compensate(self, trip: Trip) -> None:
        print(f"  cancelled: {trip.train}")


class BookHotel(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        trip.hotel = f"a room in {trip.to}"

    async def compensate(self, trip: Trip) -> None:
        print(f"  cancelled: {trip.hotel}")


class BookFlight(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        trip.flight = f"a flight to {trip.to}"

    async def compensate(self, trip: Trip) -> None:
        print(f"  cancelled: {trip.flight}")


class BookCar(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        await anyio.sleep(0.01)  # the others are quicker
        if trip.to == "Venice":
            raise NotDone("there are no cars in Venice")
        trip.car = "a car"

    async def compensate(self, trip: Trip) -> None:
        print("  cancelled: the car")


class TripSaga(Saga[Trip]):
    steps = (BookTrain, Parallel(BookHotel, BookFlight, BookCar))


async def main() -> None:
    saga = TripSaga(storage=MemoryStorage())
    for place in ("Rome", "Venice"):
        print(f"to {place}:")
        try:
            trip = (await saga.run(Trip(place))).context
            print(f"  booked: {trip.train}, {trip.hotel}, {trip.flight}, {trip.car}")
        except NotDone as error:
            print(f"  not booked: {error}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
