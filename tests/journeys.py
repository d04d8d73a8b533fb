"""Sagas to test the engine with: steps that do what a test tells them, and write down that they did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from attrs import define, field

from anysaga import Fallback, MemoryStorage, Outcome, Parallel, Retry, Saga, Step, secret
from anysaga.abc import Claim, EntryKind, NewSaga, Storage, Write

AT_ONCE = Retry(attempts=3, delay=0.0)
CARD = "4111-1111-1111-1111"


@define
class Journey:
    """The context: where the traveller has been, and a card that nobody else may see."""

    stops: list[str] = field(factory=list)
    card: str = secret(default=CARD)


Deed = Callable[[Journey], Awaitable[None]]


async def _nothing(journey: Journey) -> None:
    """Do no more than what every leg does."""


class Leg(Step[Journey, str]):
    """A step: writes `act <name>` and `undo <name>` into `did`, and its name into the context; then its deeds.

    Everything that a step class can say may be given as an option: ``pivot=True``, ``timeout=1.0``.
    """

    compensate_retry = AT_ONCE

    def __init__(
        self, name: str, did: list[str], *, act: Deed = _nothing, undo: Deed = _nothing, **options: Any
    ) -> None:
        self.name = name
        self.did = did
        self._act = act
        self._undo = undo
        for option, value in options.items():
            setattr(self, option, value)

    async def act(self, journey: Journey) -> str:
        self.did.append(f"act {self.name}")
        journey.stops.append(self.name)
        await self._act(journey)
        return f"{self.name} reached"

    async def compensate(self, journey: Journey) -> None:
        self.did.append(f"undo {self.name}")
        await self._undo(journey)


class ProbedLeg(Leg):
    """A step that can be asked what became of it; `answer` makes the answer."""

    answer: Callable[[], Any] = staticmethod(lambda: Outcome.UNKNOWN)

    async def probe(self, journey: Journey) -> Outcome:
        self.did.append(f"probe {self.name}")
        answer: Outcome = self.answer()
        return answer


class PlainLeg(Step[Journey, str]):
    """A step of plain functions, which run in worker threads."""

    compensate_retry = AT_ONCE

    def __init__(
        self,
        name: str,
        did: list[str],
        *,
        act: Callable[[Journey], object] = lambda journey: None,
        undo: Callable[[Journey], object] = lambda journey: None,
        **options: Any,
    ) -> None:
        self.name = name
        self.did = did
        self._act = act
        self._undo = undo
        for option, value in options.items():
            setattr(self, option, value)

    def act(self, journey: Journey) -> str:
        self.did.append(f"act {self.name}")
        journey.stops.append(self.name)
        self._act(journey)
        return f"{self.name} reached"

    def compensate(self, journey: Journey) -> None:
        self.did.append(f"undo {self.name}")
        self._undo(journey)


def saga_of(storage: Storage | None, *steps: Step[Any, Any] | Fallback | Parallel, **options: Any) -> Saga[Journey]:
    """A saga named "journey" of these steps."""
    return Saga[Journey](name="journey", steps=list(steps), storage=storage, **options)


def raises(error: BaseException) -> Deed:
    """A deed that fails, each time in the same way."""

    async def deed(journey: Journey) -> None:
        raise error

    return deed


def fails(times: int, error: BaseException) -> Deed:
    """A deed that fails as often as said, and then works."""
    left = [error] * times

    async def deed(journey: Journey) -> None:
        if left:
            raise left.pop()

    return deed


def hangs(began: anyio.Event) -> Deed:
    """A deed that never ends by itself, and tells when it has begun."""

    async def deed(journey: Journey) -> None:
        began.set()
        await anyio.sleep_forever()

    return deed


def hangs_once(began: anyio.Event) -> Deed:
    """A deed that never ends by itself the first time, and works after that."""

    async def deed(journey: Journey) -> None:
        if not began.is_set():
            began.set()
            await anyio.sleep_forever()

    return deed


@asynccontextmanager
async def cancelled_once(began: anyio.Event, run: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Run something, cancel it once `began` is set, and wait for its end before the block."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(_awaiting, run))
        await began.wait()
        group.cancel_scope.cancel()
    yield


async def _awaiting(run: Callable[[], Awaitable[Any]]) -> None:
    await run()


async def lost_in(began: anyio.Event, storage: MemoryStorage, run: Callable[[], Awaitable[Any]]) -> None:
    """Run something, and have its process die once `began` is set: nothing more of it is recorded."""
    async with anyio.create_task_group() as group:
        group.start_soon(_until_lost, run)
        await began.wait()
        storage.kill()
        group.cancel_scope.cancel()


async def _until_lost(run: Callable[[], Awaitable[Any]]) -> None:
    await run()


async def kinds_of(storage: Storage, saga_id: str) -> list[str]:
    """The log of a saga, as the kinds of its entries and the places they speak of."""
    entries = (await storage.load(saga_id)).entries
    return [f"{entry.kind} {entry.path}".strip() for entry in entries]


async def errors_of(storage: Storage, saga_id: str, kind: EntryKind) -> list[str]:
    """What the entries of one kind say went wrong."""
    return [entry.error or "" for entry in (await storage.load(saga_id)).entries if entry.kind is kind]


class WaitingStorage(MemoryStorage):
    """One that is waited for, as those on a disk are: so each call has a scope of its own."""

    waits = True


class WatchedStorage(MemoryStorage):
    """Keeps, beside the sagas, what each commit was made of: the kinds of its entries.

    `fails` holds errors that the next writes meet before they take effect, `loses_answers` those that they meet after.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[str]] = []
        self.waits_stored: list[float] = []
        self.fails: list[BaseException] = []
        self.loses_answers: list[Exception] = []
        self.sent: list[Write] = []

    async def create(self, new: NewSaga) -> Claim | None:
        claim = await super().create(new)
        if claim is not None:
            self.commits.append([entry.kind.value for entry in new.entries])
        return claim

    async def record(self, write: Write) -> int:
        self.sent.append(write)
        if self.fails:
            raise self.fails.pop(0)
        at = await super().record(write)
        if self.loses_answers:
            raise self.loses_answers.pop(0)
        self.commits.append([entry.kind.value for entry in write.entries])
        self.waits_stored.append(write.wait)
        return at
