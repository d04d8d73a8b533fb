"""What a running step can ask about itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysaga import CheckpointRefused, CurrentStep, NoCurrentStep, checkpoint, current_step
from anysaga._current import enter, key_of, leave

ids = st.text(min_size=1, max_size=8, alphabet="a1:/") | st.text(min_size=1)
paths = st.from_regex(r"\A[1-9][0-9]?(/([1-9]|fallback))*\Z")
calls = st.tuples(ids, paths, st.sampled_from(["act", "undo"]))


def made(**fields: object) -> CurrentStep:
    given = {
        "saga_id": "order-17",
        "saga_name": "OrderSaga",
        "step_name": "Reserve",
        "path": "2",
        "attempt": 1,
        "key": key_of("order-17", "2", "act"),
        "fence": 3,
    }
    return CurrentStep(**{**given, **fields})  # type: ignore[arg-type]  # fields by name


class _Keeper:
    def __init__(self) -> None:
        self.saved: list[CurrentStep] = []

    async def save(self, current: CurrentStep, /) -> None:
        self.saved.append(current)


@pytest.fixture
def running() -> Iterator[CurrentStep]:
    """A step that runs here."""
    current = made()
    token = enter(current)
    yield current
    leave(token)


class TestKey:
    """I9: idempotency keys."""

    @given(calls, calls)
    def test_two_calls_never_share_one(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        assert (key_of(*one) == key_of(*other)) == (one == other)

    def test_ids_that_look_like_keys_do_not_confuse_them(self) -> None:
        calls = [("a", "1", "act"), ("a:1", "1", "act"), ("a", "1", "undo"), ("a:1:act", "1", "act")]
        keys = [key_of(*call) for call in calls]

        assert all(one != other for one, other in combinations(keys, 2))

    def test_it_is_the_same_in_each_version(self) -> None:
        """Receivers keep keys: changing their form would make every repeated call a new one."""
        assert key_of("order-17", "2", "act") == "order-17:2:act"

    def test_the_key_of_the_act_is_known_in_its_undo(self) -> None:
        undo = made(key=key_of("order-17", "2", "undo"))

        assert undo.act_key == made().key != undo.key


class TestWhere:
    """It is there inside a step, and nowhere else."""

    def test_outside_a_step_there_is_none(self) -> None:
        with pytest.raises(NoCurrentStep, match=r"current_step\(\) works only inside"):
            current_step()

    def test_inside_it_is_found(self, running: CurrentStep) -> None:
        assert current_step() is running

    def test_after_it_there_is_none_again(self) -> None:
        leave(enter(made()))

        with pytest.raises(NoCurrentStep):
            current_step()

    @pytest.mark.anyio
    async def test_tasks_and_threads_of_the_step_find_it(self) -> None:
        token = enter(made())
        found = []

        async def look() -> None:
            found.append(current_step())

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            group.start_soon(look)
        found.append(await anyio.to_thread.run_sync(current_step))
        leave(token)

        assert [step.step_name for step in found] == ["Reserve"] * 3


@pytest.mark.anyio
class TestCheckpoint:
    """Saving in the middle of an act."""

    async def test_outside_a_step_it_is_refused(self) -> None:
        with pytest.raises(NoCurrentStep, match=r"checkpoint\(\) works only inside"):
            await checkpoint()

    async def test_in_an_act_it_saves(self) -> None:
        keeper = _Keeper()
        step = made(keeper=keeper, saves=True)
        token = enter(step)
        await checkpoint()
        leave(token)

        assert keeper.saved == [step]

    async def test_in_an_undo_it_is_refused(self) -> None:
        token = enter(made())

        with pytest.raises(CheckpointRefused, match="only act can save in the middle"):
            await checkpoint()
        leave(token)


def test_a_step_learns_that_it_is_asked_to_end() -> None:
    current = made()
    before = current.cancelled
    current.ask_to_end()

    assert (before, current.cancelled) == (False, True)
