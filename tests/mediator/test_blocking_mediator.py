"""The mediator for threads."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from journeys import Journey, Leg, PlainLeg, hangs, raises, saga_of

from anysaga import (
    BlockingCallInLoop,
    BlockingMediator,
    InvalidArgument,
    MediatorClosed,
    RunnerMisused,
    SagaMap,
    SagaMediator,
    SagaState,
    Step,
)

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def mediator_of(*steps: Step[Journey, str], backend: str = "asyncio", **options: object) -> BlockingMediator:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, *steps))
    return BlockingMediator(SagaMediator(sagas, **options), backend=backend)  # type: ignore[arg-type]


@BACKENDS
def test_run_and_stream_give_what_those_of_the_mediator_give(backend: str, did: list[str]) -> None:
    with mediator_of(Leg("a", did), PlainLeg("b", did), backend=backend) as mediator:
        assert mediator.run(Journey()).state is SagaState.COMPLETED
        stream = mediator.stream(Journey(), saga_id="j")
        assert [step.step_name for step in stream] == ["a", "b"]
        assert (stream.saga_id, stream.result.saga_id) == ("j", "j")


@BACKENDS
def test_a_saga_goes_on_when_its_stream_is_left(backend: str, did: list[str]) -> None:
    left, went_on = threading.Event(), threading.Event()
    waits = PlainLeg("b", did, act=lambda _: left.wait())
    tells = PlainLeg("c", did, act=lambda _: went_on.set())
    with mediator_of(Leg("a", did), waits, tells, backend=backend) as mediator:
        with mediator.stream(Journey(), saga_id="j") as stream:
            assert next(stream).step_name == "a"
        left.set()
        assert went_on.wait(30)
    assert did == ["act a", "act b", "act c"]


@BACKENDS
def test_a_stream_may_be_closed_when_its_mediator_was_left(backend: str, did: list[str]) -> None:
    """What ended it is what its thread is told."""
    began, left = threading.Event(), threading.Event()
    told: list[str] = []

    def watch() -> None:
        with pytest.raises(MediatorClosed) as caught, mediator.stream(Journey(), saga_id="j") as stream:
            try:
                for _ in stream:
                    began.set()
            finally:
                left.wait(30)
        told.append(caught.value.saga_id)

    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did), Leg("b", did, act=hangs(anyio.Event())), grace=0.01))
    thread = threading.Thread(target=watch)
    with BlockingMediator(SagaMediator(sagas, drain_timeout=0.01), backend=backend) as mediator:
        thread.start()
        assert began.wait(30)
        unread = mediator.stream(Journey(), saga_id="unread")
        next(unread)
    unread.close()
    left.set()
    thread.join(30)
    assert told == ["j"]


@BACKENDS
def test_submit_and_resume(backend: str, did: list[str]) -> None:
    with mediator_of(Leg("a", did), backend=backend) as mediator:
        assert mediator.submit(Journey(), saga_id="j") == "j"
        assert did == []
        assert mediator.resume("j").state is SagaState.COMPLETED
    assert did == ["act a"]


@BACKENDS
def test_errors_come_out_as_they_are_and_the_mediator_stays_usable(backend: str, did: list[str]) -> None:
    mine = ValueError("no")
    with mediator_of(Leg("a", did, act=raises(mine)), backend=backend) as mediator:
        for _ in range(2):
            with pytest.raises(ValueError, match="no") as caught:
                mediator.run(Journey())
            assert caught.value is mine


def test_many_threads_share_one_mediator(did: list[str]) -> None:
    with mediator_of(Leg("a", did)) as mediator:
        threads = [threading.Thread(target=mediator.run, args=(Journey(),)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(did) == 10


def test_a_startup_that_fails_is_raised_and_may_be_tried_again(did: list[str]) -> None:
    errors = [OSError("no broker yet")]

    def connect() -> None:
        if errors:
            raise errors.pop()

    mediator = mediator_of(Leg("a", did), on_startup=[connect])
    with pytest.raises(OSError, match="no broker yet"), mediator:
        raise AssertionError
    with mediator:
        mediator.run(Journey())


def test_it_is_used_inside_its_block_and_entered_once(did: list[str]) -> None:
    mediator = mediator_of(Leg("a", did))
    with pytest.raises(RunnerMisused):
        mediator.run(Journey())
    with mediator, pytest.raises(RunnerMisused, match="BlockingMediator is open already"):
        mediator.__enter__()


@pytest.mark.parametrize("given", [SagaMap(), SagaMediator, None], ids=["map", "class", "none"])
def test_what_is_no_mediator_is_refused_where_it_is_given(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a SagaMediator"):
        BlockingMediator(given)


@pytest.mark.anyio
async def test_it_is_refused_in_a_running_loop(did: list[str]) -> None:
    with pytest.raises(BlockingCallInLoop, match="async with mediator"):
        mediator_of(Leg("a", did)).__enter__()
