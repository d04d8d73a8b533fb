"""The public saga: what a run gives back, and what is refused before it begins."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from journeys import Journey, Leg, saga_of

from anysaga import InvalidArgument, MemoryStorage, Saga, SagaState, Step, StepResult
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


class Fly(Step[Journey, int]):
    async def act(self, journey: Journey) -> int:
        return 17

    async def compensate(self, journey: Journey) -> None:
        """Nothing to undo."""


class Sleep(Step[Journey]):
    name = "sleep well"

    async def act(self, journey: Journey) -> None:
        """Answer nothing."""

    async def compensate(self, journey: Journey) -> None:
        """Nothing to undo."""


class Holiday(Saga[Journey]):
    steps = [Fly, Sleep]


async def test_a_run_gives_the_results_of_all_steps_in_their_order(storage: Storage) -> None:
    result = await Holiday(storage=storage).run(Journey(), saga_id="h")
    assert [(step.step_name, step.step_type, step.response) for step in result] == [
        ("Fly", Fly, 17),
        ("sleep well", Sleep, None),
    ]
    assert [(step.saga_id, step.attempts, step.source) for step in result] == [("h", 1, "step")] * 2
    assert all(step.duration >= 0 for step in result)


async def test_a_step_that_its_class_got_after_it_was_declared_acts(storage: Storage) -> None:
    """As one appended in a loop, or put there for a test."""
    steps: list[type[Step[Journey, Any]]] = [Fly]
    kind: Any = type("Trip", (Holiday,), {"steps": steps})
    assert [step.step_type for step in await kind(storage=storage).run(Journey())] == [Fly]
    steps.append(Sleep)
    assert [step.step_type for step in await kind(storage=storage).run(Journey())] == [Fly, Sleep]
    kind.steps = [Sleep]
    assert [step.step_type for step in await kind(storage=storage).run(Journey())] == [Sleep]


@pytest.mark.parametrize(("name", "value"), [("name", "trip"), ("version", 2), ("timeout", 5.0), ("grace", 1.0)])
def test_what_is_set_on_a_class_after_it_was_declared_counts(name: str, value: object) -> None:
    class Trip(Saga[Journey]):
        steps = (Fly,)

    setattr(Trip, name, value)
    assert getattr(Trip().definition, name) == value


def test_sagas_of_a_class_share_its_definition() -> None:
    """A worker would take two definitions of one name for two sagas."""
    assert Holiday().definition is Holiday().definition


async def test_a_result_is_looked_up_by_the_class_of_its_step(storage: Storage) -> None:
    result = await Holiday(storage=storage).run(Journey())
    found: StepResult[int] = result[Fly]
    assert found.response == 17
    assert Sleep in result
    assert Leg not in result
    with pytest.raises(KeyError, match="Leg"):
        result[Leg]


async def test_a_completed_saga_says_so_and_has_no_reason(storage: Storage) -> None:
    journey = Journey()
    result = await Holiday(storage=storage).run(journey, saga_id="h")
    assert (result.saga_id, result.state, result.reason) == ("h", SagaState.COMPLETED, None)
    assert result.context is journey


async def test_an_id_may_be_a_uuid_and_is_kept_as_its_text(storage: Storage) -> None:
    saga_id = uuid.uuid4()
    result = await Holiday(storage=storage).run(Journey(), saga_id=saga_id)
    assert result.saga_id == str(saga_id)
    assert (await Holiday(storage=storage).run(saga_id=str(saga_id)))[Fly].response == 17


async def test_without_an_id_each_run_makes_its_own(storage: Storage) -> None:
    saga = Holiday(storage=storage)
    first, second = await saga.run(Journey()), await saga.run(Journey())
    assert uuid.UUID(first.saga_id) != uuid.UUID(second.saga_id)


@pytest.mark.parametrize("longest", ["x" * 200, "ö" * 200, "a/b c:1"])
async def test_an_id_may_be_any_printable_text_of_200_characters(storage: Storage, longest: str) -> None:
    assert (await Holiday(storage=storage).run(Journey(), saga_id=longest)).saga_id == longest


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\0b", "a\nb", "\ud800", 17, b"bytes", object()])
async def test_an_id_that_cannot_be_one_is_refused_before_anything_is_stored(bad: Any) -> None:
    saga = Holiday()
    with pytest.raises(InvalidArgument, match="saga_id"):
        await saga.run(Journey(), saga_id=bad)
    with pytest.raises(InvalidArgument, match="saga_id"):
        saga.transaction(Journey(), saga_id=bad)
    assert await saga.storage.find() == []


async def test_neither_a_context_nor_an_id_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="context"):
        await Holiday().run()


@pytest.mark.parametrize("bad", ["sqlite:///sagas.db", object(), MemoryStorage])
async def test_a_storage_that_is_none_is_refused_with_the_way_out(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="only blocking calls, such as run_saga, take a text"):
        Holiday(storage=bad)


@pytest.mark.parametrize("bad", ["services", 17, [Fly]])
async def test_a_container_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="container"):
        Holiday(container=bad)


async def test_without_a_storage_a_saga_keeps_its_state_in_memory_of_its_own() -> None:
    first, second = Holiday(), Holiday()
    await first.run(Journey(), saga_id="h")
    assert isinstance(first.storage, MemoryStorage)
    assert await second.storage.find() == []


async def test_a_saga_that_was_moved_has_the_other_storage_and_leaves_the_first_alone(did: list[str]) -> None:
    saga, elsewhere = saga_of(None, Leg("a", did)), MemoryStorage()
    await saga.moved_to(elsewhere).run(Journey(), saga_id="j")
    assert [summary.saga_id for summary in await elsewhere.find()] == ["j"]
    assert await saga.storage.find() == []
