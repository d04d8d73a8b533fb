"""A step that is slow, and an undo that fails at first: time limits and retries.

You see a courier that does not answer in time and is asked again, under the same idempotency key. Then the bank says
no, and calling the courier off takes two attempts.
"""

from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import NotDone, Retry, Saga, Step, current_step

SOON = Retry(attempts=3, delay=0.05, backoff=2.0)


@define
class Parcel:
    street: str


class BookCourier(Step[Parcel, str]):
    timeout = 0.2
    retry = SOON
    compensate_retry = Retry(attempts=5, delay=0.05, on=ConnectionError)

    async def act(self, parcel: Parcel) -> str:
        step = current_step()
        print(f"book a courier to {parcel.street}: attempt {step.attempt} under {step.key}")
        if step.attempt == 1:
            await anyio.sleep_forever()
        return "the courier comes at noon"

    async def compensate(self, parcel: Parcel) -> None:
        attempt = current_step().attempt
        print(f"call the courier off: attempt {attempt}")
        if attempt == 1:
            raise ConnectionError("the line is engaged")


class Pay(Step[Parcel]):
    async def act(self, parcel: Parcel) -> None:
        raise NotDone("the bank says no")

    async def compensate(self, parcel: Parcel) -> None:
        print("never called: a payment that was not done needs no undo")


class ParcelSaga(Saga[Parcel]):
    steps = (BookCourier, Pay)
    timeout = 60.0


async def main() -> None:
    try:
        async with ParcelSaga().transaction(Parcel("Elm Street"), saga_id="parcel-1") as transaction:
            async for step in transaction:
                print(f"{step.step_name}: {step.response} (attempts: {step.attempts})")
    except NotDone as error:
        print(f"failed: {error}\n{error.__notes__[0]}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
