"""C: which context an act, a further attempt and an undo see, and what becomes of the changes."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import anyio
import pytest
from attrs import define, field
from journeys import AT_ONCE, Journey, Leg, fails, hangs, kinds_of, lost_in, raises, saga_of

from anysaga import (
    CheckpointRefused,
    ContextChangedWarning,
    MemoryStorage,
    NoCurrentStep,
    NotDone,
    NotStorable,
    Saga,
    SagaParked,
    SagaState,
    Step,
    checkpoint,
    current_step,
    recover_saga,
)
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


def sees(did: list[str], stops: list[list[str]], then: Any = None) -> Any:
    """A deed that writes down the stops it sees, and goes on with another one."""

    async def deed(journey: Journey) -> None:
        stops.append(list(journey.stops))
        if then is not None:
            await then(journey)

    return deed


async def test_the_context_stays_the_callers_own_object_in_every_act_and_undo(storage: Storage, did: list[str]) -> None:
    seen: list[object] = []

    async def keep(journey: Journey) -> None:
        seen.append(journey)

    mine = Journey()
    last = Leg("b", did, act=raises(OSError()), undo=keep)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did, act=keep, undo=keep), last).run(mine)
    assert len(seen) == 3
    assert all(one is mine for one in seen)


async def test_lists_of_the_context_are_restored_in_the_callers_object(storage: Storage, did: list[str]) -> None:
    mine = Journey()
    leg = Leg("a", did, act=fails(1, OSError()), retry=AT_ONCE)
    await saga_of(storage, leg).run(mine)
    assert mine.stops == ["a"]


async def test_a_further_attempt_starts_from_the_last_durable_context(storage: Storage, did: list[str]) -> None:
    stops: list[list[str]] = []
    leg = Leg("b", did, act=sees(did, stops, fails(2, OSError())), retry=AT_ONCE)
    await saga_of(storage, Leg("a", did), leg).run(Journey())
    assert stops == [["a", "b"]] * 3


async def test_an_undo_sees_what_the_failing_act_wrote(storage: Storage, did: list[str]) -> None:
    stops: list[list[str]] = []
    leg = Leg("b", did, act=raises(OSError()), undo=sees(did, stops))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did), leg).run(Journey())
    assert stops == [["a", "b"]]


async def test_of_an_act_lost_with_its_process_an_undo_sees_no_more_than_the_last_checkpoint(did: list[str]) -> None:
    """Its retry, which could see more, is forbidden by the abort."""
    storage, began, stops = MemoryStorage(), anyio.Event(), list[list[str]]()

    async def act(journey: Journey) -> None:
        journey.stops.append("halfway")
        await checkpoint()
        journey.stops.append("lost")
        await hangs(began)(journey)

    saga = saga_of(storage, Leg("a", did, act=act, undo=sees(did, stops)))
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    async with saga.transaction(saga_id="j") as transaction:
        await transaction.abort()
    assert stops == [["a", "halfway"]]


async def test_what_an_undo_writes_is_seen_by_the_next_undo_and_kept(storage: Storage, did: list[str]) -> None:
    stops: list[list[str]] = []

    async def undo(journey: Journey) -> None:
        journey.stops.remove("b")

    mine = Journey()
    last = Leg("c", did, act=raises(NotDone()))
    with pytest.raises(NotDone):
        await saga_of(storage, Leg("a", did, undo=sees(did, stops)), Leg("b", did, undo=undo), last).run(
            mine, saga_id="j"
        )
    assert stops == [["a", "c"]]
    undone = [entry for entry in (await storage.load("j")).entries if entry.kind == "UNDONE"]
    assert '"b"' not in (undone[0].context or "")


async def test_a_repeated_undo_starts_from_the_context_before_its_first_attempt(
    storage: Storage, did: list[str]
) -> None:
    stops: list[list[str]] = []
    fail = fails(2, OSError())

    async def undo(journey: Journey) -> None:
        stops.append(list(journey.stops))
        journey.stops.append("dirt")
        await fail(journey)

    saga = saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=raises(NotDone())))
    with pytest.raises(NotDone):
        await saga.run(Journey())
    assert stops == [["a", "b"]] * 3


async def test_a_checkpoint_is_durable_when_it_returns_and_seen_by_the_next_attempt(
    storage: Storage, did: list[str]
) -> None:
    logs: list[list[str]] = []
    stops: list[list[str]] = []
    fail = fails(1, OSError())

    async def act(journey: Journey) -> None:
        stops.append(list(journey.stops))
        await checkpoint()
        logs.append(await kinds_of(storage, "j"))
        journey.stops.append("lost")
        await fail(journey)

    await saga_of(storage, Leg("a", did, act=act, retry=AT_ONCE)).run(Journey(), saga_id="j")
    assert logs[0] == ["STARTED 1", "CHECKPOINT 1"]
    assert stops == [["a"], ["a", "a"]]
    assert (await storage.load("j")).entries[1].context == '{"stops":["a"],"card":"4111-1111-1111-1111"}'


async def test_a_checkpoint_without_a_change_writes_nothing(storage: Storage, did: list[str]) -> None:
    async def act(journey: Journey) -> None:
        journey.stops.clear()
        await checkpoint()
        await checkpoint()

    await saga_of(storage, Leg("a", did, act=act)).run(Journey(), saga_id="j")
    assert "CHECKPOINT 1" not in await kinds_of(storage, "j")


async def test_a_checkpoint_is_refused_in_an_undo(storage: Storage, did: list[str]) -> None:
    refused: list[str] = []

    async def undo(journey: Journey) -> None:
        with pytest.raises(CheckpointRefused) as caught:
            await checkpoint()
        refused.append(caught.value.step)

    with pytest.raises(NotDone):
        await saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=raises(NotDone()))).run(Journey())
    assert refused == ["a"]


async def test_a_checkpoint_is_refused_once_its_act_has_ended(storage: Storage, did: list[str]) -> None:
    late: list[Any] = []

    async def act(journey: Journey) -> None:
        late.append(current_step())

    await saga_of(storage, Leg("a", did, act=act)).run(Journey())
    with pytest.raises(CheckpointRefused, match="ended"):
        await late[0].save()


async def test_a_checkpoint_outside_a_step_is_refused() -> None:
    with pytest.raises(NoCurrentStep):
        await checkpoint()


async def test_a_checkpoint_that_cannot_be_stored_fails_inside_the_step(storage: Storage, did: list[str]) -> None:
    async def act(journey: Journey) -> None:
        journey.stops.append("\0")
        with pytest.raises(NotStorable, match="stops"):
            await checkpoint()
        journey.stops.clear()

    result = await saga_of(storage, Leg("a", did, act=act)).run(Journey())
    assert result.context.stops == []


async def test_what_the_watcher_changes_is_discarded_with_a_warning_when_the_next_step_begins(
    storage: Storage, did: list[str]
) -> None:
    stops: list[list[str]] = []
    mine = Journey()
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=sees(did, stops)))
    async with saga.transaction(mine) as transaction:
        await anext(transaction)
        mine.stops.append("by the watcher")
        with pytest.warns(ContextChangedWarning, match="'journey'"):
            await anext(transaction)
    assert stops == [["a", "b"]]
    assert mine.stops == ["a", "b"]


async def test_what_the_watcher_changes_is_not_seen_by_an_undo(storage: Storage, did: list[str]) -> None:
    stops: list[list[str]] = []
    mine = Journey()
    async with saga_of(storage, Leg("a", did, undo=sees(did, stops)), Leg("b", did)).transaction(mine) as transaction:
        await anext(transaction)
        mine.stops.clear()
        with pytest.warns(ContextChangedWarning):
            await transaction.abort()
    assert stops == [["a"]]


async def test_a_watcher_that_only_looks_is_not_warned(storage: Storage, did: list[str]) -> None:
    mine = Journey()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(mine) as transaction:
            seen = [list(mine.stops) async for _ in transaction]
    assert seen == [["a"], ["a", "b"]]


async def test_a_context_that_cannot_be_stored_is_refused_before_anything_begins(
    storage: Storage, did: list[str]
) -> None:
    with pytest.raises(NotStorable, match=r"stops"):
        await saga_of(storage, Leg("a", did)).run(Journey(["\0"]), saga_id="j")
    assert await storage.find() == []
    assert did == []


@pytest.mark.parametrize("retry", [None, AT_ONCE], ids=["no retry", "retry"])
async def test_a_context_that_an_act_made_unstorable_goes_back_beginning_with_that_step_without_a_retry(
    storage: Storage, did: list[str], retry: Any
) -> None:
    """A5. The undo sees the last context that could be stored, and the log says so."""
    stops: list[list[str]] = []

    async def spoil(journey: Journey) -> None:
        journey.stops.append("\ud800")

    leg = Leg("b", did, act=spoil, undo=sees(did, stops), retry=retry)
    with pytest.raises(NotStorable):
        await saga_of(storage, Leg("a", did), leg).run(Journey(), saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert stops == [["a"]]
    (unknown,) = [entry for entry in (await storage.load("j")).entries if entry.kind == "UNKNOWN"]
    assert "its context was not kept" in (unknown.error or "")


async def test_an_act_that_fails_and_leaves_an_unstorable_context_keeps_its_own_error(
    storage: Storage, did: list[str]
) -> None:
    async def spoil(journey: Journey) -> None:
        journey.stops.append("\0")
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError, match="lost"):
        await saga_of(storage, Leg("a", did, act=spoil)).run(Journey(), saga_id="j")
    (unknown,) = [entry for entry in (await storage.load("j")).entries if entry.kind == "UNKNOWN"]
    assert (unknown.error or "").startswith("ConnectionError: lost (its context was not kept")
    assert did == ["act a", "undo a"]


async def spoil_after_a_checkpoint(journey: Journey) -> None:
    """Leave a context that cannot be stored, of which a part is durable."""
    await checkpoint()
    journey.stops.append("\0")
    raise ConnectionError("lost")


async def test_what_an_act_made_unstorable_after_a_checkpoint_is_not_seen_by_its_further_attempts(
    storage: Storage, did: list[str]
) -> None:
    """C1: each starts from the checkpoint before."""
    stops: list[list[str]] = []
    with pytest.raises(ConnectionError, match="lost"):
        await saga_of(storage, Leg("a", did, act=sees(did, stops, then=spoil_after_a_checkpoint), retry=AT_ONCE)).run(
            Journey()
        )
    assert stops == [["a"], ["a"] * 2, ["a"] * 3]


async def test_what_an_act_made_unstorable_after_a_checkpoint_is_not_seen_by_its_undo(
    storage: Storage, did: list[str]
) -> None:
    """A5."""
    stops: list[list[str]] = []
    with pytest.raises(ConnectionError, match="lost"):
        await saga_of(storage, Leg("a", did, act=spoil_after_a_checkpoint, undo=sees(did, stops))).run(Journey())
    assert stops == [["a"]]


async def test_a_pivot_that_made_something_unstorable_is_parked_and_not_undone(
    storage: Storage, did: list[str]
) -> None:
    async def spoil(journey: Journey) -> None:
        journey.stops.append("\0")

    with pytest.raises(SagaParked, match="cannot be stored") as caught:
        await saga_of(storage, Leg("a", did), Leg("b", did, act=spoil, pivot=True)).run(Journey())
    assert isinstance(caught.value.__cause__, NotStorable)
    assert did == ["act a", "act b"]


async def test_an_undo_that_made_the_context_unstorable_is_done_all_the_same(storage: Storage, did: list[str]) -> None:
    async def spoil(journey: Journey) -> None:
        journey.stops.append("\0")

    saga = saga_of(storage, Leg("a", did), Leg("b", did, undo=spoil), Leg("c", did, act=raises(NotDone())))
    with pytest.raises(NotDone):
        await saga.run(Journey(), saga_id="j")
    assert did[3:] == ["undo b", "undo a"]
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


@dataclasses.dataclass
class Parcel:
    weight: float
    labels: list[str] = dataclasses.field(default_factory=list)


@define
class Box:
    weight: float
    labels: list[str] = field(factory=list)


class Send(Step[Any]):
    async def act(self, parcel: Any) -> None:
        parcel.labels.append("sent")
        if parcel.weight > 10:
            parcel.weight = float("nan")

    async def compensate(self, parcel: Any) -> None:
        parcel.labels.append("returned")


@pytest.mark.parametrize("kind", [Parcel, Box], ids=["dataclass", "attrs"])
async def test_attrs_classes_and_dataclasses_are_contexts_alike(storage: Storage, kind: Any) -> None:
    saga = Saga[kind](name="send", steps=[Send], storage=storage)
    light, heavy = kind(1.5), kind(11.0)
    assert (await saga.run(light, saga_id="light")).context is light
    assert light == kind(1.5, ["sent"])
    assert (await saga.run(saga_id="light")).context == kind(1.5, ["sent"])
    with pytest.raises(NotStorable, match="weight"):
        await saga.run(heavy, saga_id="heavy")
    assert (await recover_saga(saga, "heavy")).state is SagaState.COMPENSATED


@pytest.mark.parametrize("wrong", [17, {"stops": []}, Box(1.0)], ids=str)
async def test_a_context_of_another_type_is_refused(did: list[str], wrong: Any) -> None:
    storage = MemoryStorage()
    with pytest.raises(NotStorable):
        await saga_of(storage, Leg("a", did)).run(wrong, saga_id="j")
    assert await storage.find() == []
