"""Sagas that began before a field of their context was declared, or while it stood elsewhere."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from attrs import define, field

from anysaga import Parallel, Saga, SagaMismatch, SagaState, Step, checkpoint, recover_saga
from anysaga.abc import EntryKind, Storage

pytestmark = pytest.mark.anyio


@define
class Hotel:
    name: str = ""


@define
class LaterHotel:
    stars: int = 3
    name: str = ""


@define
class Trip:
    hotel: Hotel = field(factory=Hotel)
    a: int = 0
    b: int = 0
    c: int = 0


@define
class LaterTrip:
    """What became of it: a field more, one more in a part of it, and another order."""

    c: int = 0
    b: float = 0.0
    a: int = 0
    hotel: LaterHotel = field(factory=LaterHotel)
    currency: str = "EUR"


numbers = count(1)


@define
class NumberedTrip(Trip):
    """With a field that has another default each time."""

    number: int = field(factory=lambda: next(numbers))


class Look(Step[Any, int]):
    """Answers the number that it found, and changes nothing."""

    read_only = True

    async def act(self, trip: Any) -> int:
        return int(trip.number)


class LookAndSave(Look):
    async def act(self, trip: Any) -> int:
        await checkpoint()
        return await super().act(trip)


class Count(Step[Any]):
    """Counts in the field that it is named after."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, trip: Any) -> None:
        setattr(trip, self.name, getattr(trip, self.name) + 1)

    async def compensate(self, trip: Any) -> None: ...


BRANCHES = Parallel(Count("b"), Count("c"))


def saga_of(kind: Any, storage: Storage, *steps: Step[Any, Any] | Parallel) -> Saga[Any]:
    return Saga[kind](name="trip", steps=list(steps), storage=storage)


async def begun(storage: Storage, *steps: Step[Any, Any] | Parallel) -> None:
    """Run the first step of a saga on the earlier context, and give it back."""
    async with saga_of(Trip, storage, *steps).transaction(Trip(), saga_id="t") as transaction:
        await anext(transaction)
        await transaction.suspend()


async def test_branches_do_not_clash_over_a_field_that_none_of_them_changed(storage: Storage) -> None:
    await begun(storage, Count("a"), BRANCHES)
    result = await recover_saga(saga_of(LaterTrip, storage, Count("a"), BRANCHES), "t")
    assert (result.state, result.context) == (SagaState.COMPLETED, LaterTrip(a=1, b=1.0, c=1))


async def test_what_one_branch_writes_into_a_new_field_is_kept(storage: Storage) -> None:
    """Also beside branches that had begun before the field was declared."""

    class Exchange(Count):
        async def act(self, trip: Any) -> None:
            trip.currency = "USD"

    group = Parallel(Count("b"), Exchange("x"), Count("c"), limit=1)
    await begun(storage, Count("a"), group)
    result = await recover_saga(saga_of(LaterTrip, storage, Count("a"), group), "t")
    assert result.context == LaterTrip(a=1, b=1.0, c=1, currency="USD")


async def test_a_default_that_a_step_has_seen_stays_what_it_was(storage: Storage) -> None:
    await begun(storage, Count("a"), Look(), Count("b"))
    saga = saga_of(NumberedTrip, storage, Count("a"), Look(), Count("b"))
    async with saga.transaction(saga_id="t") as transaction:
        seen = (await anext(transaction)).response
        await transaction.suspend()
    context = (await recover_saga(saga, "t")).context
    assert context is not None
    assert (context.number, context.b) == (seen, 1)


async def test_a_default_is_stored_by_a_checkpoint(storage: Storage) -> None:
    await begun(storage, Count("a"), LookAndSave())
    result = await recover_saga(saga_of(NumberedTrip, storage, Count("a"), LookAndSave()), "t")
    saved = [entry.context for entry in (await storage.load("t")).entries if entry.kind is EntryKind.CHECKPOINT]
    assert [json.loads(context or "")["number"] for context in saved] == [result[LookAndSave].response]


@define
class ShortTrip:
    """Another thing that became of it: fields are gone."""

    a: int = 0


async def test_the_same_request_for_a_context_that_cannot_be_read_is_told_so(storage: Storage) -> None:
    """It is no other request, as it would otherwise hear."""
    await begun(storage, Count("a"), Count("a2"))
    with pytest.raises(SagaMismatch, match=r"does not fit the code: .*cannot be read"):
        await saga_of(ShortTrip, storage, Count("a"), Count("a2")).run(ShortTrip(), saga_id="t")
