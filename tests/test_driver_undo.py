"""Going back: the order, the retries of undos, and what is done with one that cannot be undone."""

from __future__ import annotations

import anyio
import pytest
from journeys import Journey, Leg, fails, hangs, kinds_of, lost_in, raises, saga_of

from anysaga import MemoryStorage, NotDone, Retry, SagaParked, SagaState, Step, recover_saga
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


async def test_steps_are_undone_in_reverse_order(storage: Storage, did: list[str]) -> None:
    legs = [Leg(name, did) for name in "abcd"]
    with pytest.raises(NotDone):
        await saga_of(storage, *legs, Leg("e", did, act=raises(NotDone()))).run(Journey())
    assert did[5:] == ["undo d", "undo c", "undo b", "undo a"]


async def test_steps_that_never_began_are_not_undone(storage: Storage, did: list[str]) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did), Leg("b", did, act=raises(OSError())), Leg("c", did)).run(Journey())
    assert did == ["act a", "act b", "undo b", "undo a"]


async def test_an_undo_that_fails_is_called_again(storage: Storage, did: list[str]) -> None:
    with pytest.raises(NotDone):
        await saga_of(storage, Leg("a", did, undo=fails(2, OSError())), Leg("b", did, act=raises(NotDone()))).run(
            Journey(), saga_id="j"
        )
    assert did[2:] == ["undo a"] * 3
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


class Plain(Step[Journey]):
    """A step that says nothing about retries."""

    async def act(self, journey: Journey) -> None:
        journey.stops.append("here")

    async def compensate(self, journey: Journey) -> None:
        raise OSError


async def test_an_undo_has_three_attempts_by_default_a_second_and_two_seconds_apart() -> None:
    leaf = saga_of(None, Plain()).definition.leaves[0]
    assert leaf.compensate_retry == Retry(attempts=3, delay=1.0, backoff=2.0)


@pytest.mark.parametrize(
    ("of_step", "of_saga", "calls"),
    [(None, Retry(attempts=2, delay=0), 2), (Retry(attempts=4, delay=0), Retry(attempts=2, delay=0), 4)],
    ids=["saga", "step"],
)
async def test_the_retry_of_an_undo_is_that_of_its_step_or_else_of_the_saga(
    storage: Storage, did: list[str], of_step: Retry | None, of_saga: Retry, calls: int
) -> None:
    leg = Leg("a", did, undo=raises(OSError()), compensate_retry=of_step)
    with pytest.raises(SagaParked):
        await saga_of(storage, leg, Leg("b", did, act=raises(NotDone())), compensate_retry=of_saga).run(Journey())
    assert did[2:] == ["undo a"] * calls


async def test_an_undo_that_fails_for_good_parks_the_saga_there_and_keeps_the_order(
    storage: Storage, did: list[str]
) -> None:
    mine = NotDone("full")
    legs = [Leg("a", did), Leg("b", did, undo=raises(OSError("jammed"))), Leg("c", did)]
    with pytest.raises(SagaParked, match="jammed") as caught:
        await saga_of(storage, *legs, Leg("d", did, act=raises(mine))).run(Journey(), saga_id="j")
    assert caught.value.__cause__ is mine
    assert caught.value.step == "b"
    assert did[4:] == ["undo c", *["undo b"] * 3]
    assert (await storage.load("j")).summary.state is SagaState.PARKED


async def test_with_continue_the_rest_is_undone_first_and_then_the_saga_is_parked(
    storage: Storage, did: list[str]
) -> None:
    legs = [Leg("a", did), Leg("b", did, undo=raises(OSError("jammed"))), Leg("c", did)]
    saga = saga_of(storage, *legs, Leg("d", did, act=raises(NotDone())), on_undo_failure="continue")
    with pytest.raises(SagaParked, match="the compensation of 'b' failed, all others were undone") as caught:
        await saga.run(Journey(), saga_id="j")
    assert isinstance(caught.value.__cause__, NotDone)
    assert did[4:] == ["undo c", *["undo b"] * 3, "undo a"]
    assert (await kinds_of(storage, "j"))[-1] == "PARKED 2"


async def test_with_continue_a_parked_saga_is_never_called_compensated(storage: Storage, did: list[str]) -> None:
    """All undos failed, and nothing else is left."""
    saga = saga_of(
        storage,
        *(Leg(name, did, undo=raises(OSError(name))) for name in "ab"),
        Leg("c", did, act=raises(NotDone())),
        on_undo_failure="continue",
    )
    with pytest.raises(SagaParked, match="'b', 'a'"):
        await saga.run(Journey(), saga_id="j")
    assert (await storage.load("j")).summary.state is SagaState.PARKED


async def test_an_undo_lost_in_a_crash_is_called_again_by_recovery(did: list[str]) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    failing = Leg("b", did, act=raises(NotDone()))
    saga = saga_of(storage, Leg("a", did, undo=hangs(began)), failing, grace=0.01)
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    result = await recover_saga(saga_of(storage, Leg("a", did), Leg("b", did)), "j")
    assert result.state is SagaState.COMPENSATED
    assert did == ["act a", "act b", "undo a", "undo a"]


async def test_going_back_is_never_undone_by_a_resume(did: list[str]) -> None:
    """B1: below a BACK no act begins."""
    storage, began = MemoryStorage(), anyio.Event()
    failing = Leg("b", did, act=raises(OSError()), undo=hangs(began))
    saga = saga_of(storage, Leg("a", did), failing, grace=0.01)
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    await recover_saga(saga_of(storage, Leg("a", did), Leg("b", did)), "j")
    assert did == ["act a", "act b", "undo b", "undo b", "undo a"]


async def test_an_undo_that_its_processes_did_not_outlive_is_given_up_and_the_rest_undone(did: list[str]) -> None:
    storage = MemoryStorage()
    began: list[anyio.Event] = []

    async def undo(journey: Journey) -> None:
        began[-1].set()
        await anyio.sleep_forever()

    deadly = Leg("b", did, act=raises(OSError()), undo=undo, compensate_retry=Retry(attempts=1))
    saga = saga_of(storage, Leg("a", did), deadly, on_undo_failure="continue", grace=0.01)
    for run in (lambda: saga.run(Journey(), saga_id="j"), lambda: recover_saga(saga, "j")):
        began.append(anyio.Event())
        await lost_in(began[-1], storage, run)
    with anyio.fail_after(30):
        result = await recover_saga(saga, "j")
    assert result.state is SagaState.PARKED
    assert did == ["act a", "act b", "undo b", "undo b", "undo a"]
