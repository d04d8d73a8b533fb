"""A: what the end of one call says about the step: done, not done or unknown."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from journeys import AT_ONCE, Deed, Journey, Leg, WaitingStorage, kinds_of, raises, saga_of
from virtual_time import in_jumping_time

from anysaga import MemoryStorage, NotDone, Outcome, SagaState, SagaTimeout, Step, StepTimeout, current_step
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[MemoryStorage, WaitingStorage])
def storage(request: pytest.FixtureRequest) -> MemoryStorage:
    """Of all that a store is, only whether it is waited for counts here."""
    made: MemoryStorage = request.param()
    return made


class CardDeclined(Exception):
    """What a bank says before it does anything."""


class NoFunds(CardDeclined):
    """One kind of it."""


async def outcome_of(storage: Storage, did: list[str], act: Deed, **options: Any) -> str:
    """The outcome in the log of a step that fails with this deed."""
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is not the law
        await saga_of(storage, Leg("a", did, act=act, **options)).run(Journey(), saga_id="j")
    (kind,) = {
        entry.kind.value for entry in (await storage.load("j")).entries if entry.kind in ("DONE", "NOT_DONE", "UNKNOWN")
    }
    undone = "undo a" in did
    assert undone == (kind == "UNKNOWN"), "what is in doubt is undone, what is not done is not"
    return kind


async def test_an_act_that_raises_anything_is_unknown(storage: Storage, did: list[str]) -> None:
    assert await outcome_of(storage, did, raises(ValueError())) == "UNKNOWN"


async def test_an_act_that_raises_not_done_is_not_done(storage: Storage, did: list[str]) -> None:
    assert await outcome_of(storage, did, raises(NotDone("full"))) == "NOT_DONE"


async def test_an_act_that_raises_a_type_in_not_done_on_is_not_done(storage: Storage, did: list[str]) -> None:
    assert await outcome_of(storage, did, raises(NoFunds()), not_done_on=(CardDeclined,)) == "NOT_DONE"


async def test_whatever_an_atomic_act_raises_it_is_not_done(storage: Storage, did: list[str]) -> None:
    assert await outcome_of(storage, did, raises(ValueError()), atomic=True) == "NOT_DONE"


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([NotDone(), CardDeclined()], "NOT_DONE"),
        ([NotDone(), ExceptionGroup("inner", [CardDeclined(), NotDone()])], "NOT_DONE"),
        ([NotDone(), ValueError()], "UNKNOWN"),
        ([NotDone(), ExceptionGroup("inner", [CardDeclined(), ValueError()])], "UNKNOWN"),
    ],
)
async def test_a_group_is_clean_only_if_each_of_its_leaves_is(
    storage: Storage, did: list[str], errors: list[Exception], outcome: str
) -> None:
    """A2."""
    group = ExceptionGroup("several", errors)
    assert await outcome_of(storage, did, raises(group), not_done_on=(CardDeclined,)) == outcome


@in_jumping_time
async def test_an_act_cut_off_by_its_time_limit_is_unknown_even_if_atomic(storage: Storage, did: list[str]) -> None:
    async def act(journey: Journey) -> None:
        await anyio.sleep_forever()

    assert await outcome_of(storage, did, act, atomic=True, timeout=1.0) == "UNKNOWN"


@in_jumping_time
async def test_an_act_that_raises_a_clean_error_after_its_time_limit_is_unknown(
    storage: Storage, did: list[str]
) -> None:
    """A2: the bank's answer is about the attempt that was cut off, or about nothing."""

    async def act(journey: Journey) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise CardDeclined

    with pytest.raises(StepTimeout) as caught:
        await saga_of(storage, Leg("a", did, act=act, timeout=1.0, not_done_on=(CardDeclined,))).run(
            Journey(), saga_id="j"
        )
    assert isinstance(caught.value.__cause__, CardDeclined)
    assert "UNKNOWN 1" in await kinds_of(storage, "j")
    assert did == ["act a", "undo a"]


async def test_a_timeout_error_that_the_act_raises_itself_is_no_time_limit_of_ours(
    storage: Storage, did: list[str]
) -> None:
    """A2: known by the scope, not by the type."""
    mine = TimeoutError("the bank's own")
    with pytest.raises(TimeoutError) as caught:
        await saga_of(storage, Leg("a", did, act=raises(mine), timeout=60.0, atomic=True)).run(Journey(), saga_id="j")
    assert caught.value is mine
    assert "NOT_DONE 1" in await kinds_of(storage, "j")


@in_jumping_time
async def test_an_act_with_a_time_limit_of_its_own_inside_is_judged_by_what_it_raises(
    storage: Storage, did: list[str]
) -> None:
    async def act(journey: Journey) -> None:
        with anyio.fail_after(1):
            await anyio.sleep_forever()

    assert await outcome_of(storage, did, act, not_done_on=(TimeoutError,), timeout=60.0) == "NOT_DONE"


@in_jumping_time
async def test_an_act_that_swallows_its_time_limit_and_returns_is_done(storage: Storage, did: list[str]) -> None:
    """A2."""

    async def act(journey: Journey) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - that is the point
            return

    result = await saga_of(storage, Leg("a", did, act=act, timeout=1.0)).run(Journey())
    assert result.state is SagaState.COMPLETED
    assert did == ["act a"]


async def test_an_act_that_swallows_a_cancellation_and_returns_is_done(storage: Storage, did: list[str]) -> None:
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - that is the point
            return

    saga = saga_of(storage, Leg("a", did, act=act), Leg("b", did))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Journey(), saga_id="j"))
        await began.wait()
        group.cancel_scope.cancel()
    assert "DONE 1" in await kinds_of(storage, "j")
    assert did == ["act a", "undo a"]


async def test_a_clean_error_after_a_cancellation_was_delivered_is_unknown(storage: Storage, did: list[str]) -> None:
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise NotDone

    saga = saga_of(storage, Leg("a", did, act=act))
    async with anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(NotDone):
                await saga.run(Journey(), saga_id="j")

        group.start_soon(run)
        await began.wait()
        group.cancel_scope.cancel()
    assert "UNKNOWN 1" in await kinds_of(storage, "j")
    assert did == ["act a", "undo a"]


async def test_a_clean_error_does_not_clear_an_earlier_doubt(storage: Storage, did: list[str]) -> None:
    """A1: attempt 1 timed out but charged; attempt 2 says "no funds"."""
    errors: list[BaseException] = [CardDeclined(), ConnectionError()]

    async def act(journey: Journey) -> None:
        raise errors.pop()

    leg = Leg("a", did, act=act, retry=AT_ONCE, not_done_on=(CardDeclined,))
    leg.retry = type(AT_ONCE)(attempts=2, delay=0)
    with pytest.raises(CardDeclined):
        await saga_of(storage, leg).run(Journey())
    assert did == ["act a", "act a", "undo a"]


async def test_an_undo_knows_whether_its_act_was_done_or_is_in_doubt(storage: Storage, did: list[str]) -> None:
    outcomes: list[Outcome | None] = []

    async def look(journey: Journey) -> None:
        outcomes.append(current_step().outcome)

    saga = saga_of(storage, Leg("a", did, undo=look), Leg("b", did, act=raises(OSError()), undo=look))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga.run(Journey())
    assert outcomes == [Outcome.UNKNOWN, Outcome.DONE]


async def test_the_key_of_an_act_is_the_same_in_each_attempt_and_another_one_in_its_undo(
    storage: Storage, did: list[str]
) -> None:
    """I9."""
    keys: list[str] = []

    async def look(journey: Journey) -> None:
        keys.append(current_step().key)

    async def act(journey: Journey) -> None:
        await look(journey)
        raise OSError

    async def undo(journey: Journey) -> None:
        await look(journey)
        assert current_step().act_key == keys[0]

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did, act=act, undo=undo, retry=AT_ONCE)).run(Journey(), saga_id="j")
    assert keys == ["j:1:act"] * 3 + ["j:1:undo"]


class Reply(Step[Journey, str]):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def act(self, journey: Journey) -> str:
        answer: str = self.answer
        return answer

    async def compensate(self, journey: Journey) -> None:
        journey.stops.append("undone")


class Odd:
    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize("answer", ["\0", "\ud800", "x" * (256 * 1024 + 1), 17, None, Odd()], ids=repr)
async def test_a_response_that_cannot_be_stored_makes_the_saga_go_back_beginning_with_that_step(
    storage: Storage, did: list[str], answer: Any
) -> None:
    """A5."""
    with pytest.raises(ValueError, match="the response of step 'Reply' cannot be stored"):
        await saga_of(storage, Leg("a", did), Reply(answer)).run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]
    assert await kinds_of(storage, "j") == [
        *("STARTED 1", "DONE 1", "STARTED 2", "UNKNOWN 2", "BACK"),
        *("UNDO_STARTED 2", "UNDONE 2", "UNDO_STARTED 1", "UNDONE 1", "COMPENSATED"),
    ]


async def test_a_read_only_step_in_doubt_is_not_undone(storage: Storage, did: list[str]) -> None:
    look = Leg("b", did, act=raises(OSError()), read_only=True)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did), look).run(Journey())
    assert did == ["act a", "act b", "undo a"]


async def test_both_time_limits_are_timeout_errors() -> None:
    assert issubclass(StepTimeout, TimeoutError)
    assert issubclass(SagaTimeout, TimeoutError)
