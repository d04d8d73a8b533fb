"""Ctrl-C in blocking code, at each of the moments at which a thread waits for the loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path

import anyio
import pytest
from tours import Hotel, Tour, TourSaga, Train

from anysaga import (
    BlockingMediator,
    MemoryStorage,
    Saga,
    SagaMap,
    SagaMediator,
    SagaState,
    SQLAlchemyStorage,
    iter_saga,
    run_saga,
)
from anysaga._loop_thread import _result
from anysaga.abc import SagaSummary

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C is Python's own here, whatever a loop of other tests made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    """Interrupt the thread that waits for the loop."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class Line:
    """Something that a step needs."""


async def unreachable() -> Line:
    while True:
        ctrl_c()
        await anyio.sleep(5)  # it is cancelled long before, unless a finalizer swallowed the interrupt


class ByPhone(Hotel):
    def __init__(self, line: Line) -> None:
        self.line = line


class Slow(Hotel):
    """Is interrupted while it undoes, which takes its time."""

    times = 1

    async def compensate(self, tour: Tour) -> None:
        for _ in range(self.times):
            ctrl_c()
            await anyio.sleep(0.1)
        await super().compensate(tour)


class Slower(Slow):
    times = 2


class Hangs(Hotel):
    """Is interrupted while it acts, for which it would take for ever."""

    name = "hangs"

    async def act(self, tour: Tour) -> str:
        while True:
            ctrl_c()
            await anyio.sleep(5)  # as in `unreachable`


def summary_in(file: Path, backend: str) -> SagaSummary:
    async def load() -> SagaSummary:
        async with SQLAlchemyStorage(file) as storage:
            return (await storage.load("t")).summary

    return anyio.run(load, backend=backend)


@BACKENDS
def test_a_mediator_that_waits_for_its_startup_can_be_interrupted(backend: str) -> None:
    sagas = SagaMap()
    sagas.bind(Tour, Saga[Tour](name="tour", steps=[Hotel]))
    mediator = SagaMediator(sagas, on_startup=[unreachable])
    with pytest.raises(KeyboardInterrupt), BlockingMediator(mediator, backend=backend):
        raise AssertionError


@BACKENDS
def test_a_saga_that_waits_for_its_container_can_be_interrupted(backend: str) -> None:
    saga = Saga[Tour](name="tour", steps=[ByPhone])
    steps = iter_saga(saga, Tour(), storage=MemoryStorage(), container={Line: unreachable}, backend=backend)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert list(steps) == []


@BACKENDS
def test_an_undo_after_an_exception_has_its_grace(tmp_path: Path, backend: str, done: list[str]) -> None:
    """Neither the storage nor the loop is closed under it."""
    saga = Saga[Tour](name="tour", steps=[Slow, Train])
    steps = iter_saga(saga, Tour(), saga_id="t", storage=tmp_path / "tours.db", backend=backend)
    with pytest.raises(KeyboardInterrupt), steps:
        next(steps)
        raise ValueError
    assert done == ["act hotel", "undo hotel"]
    assert summary_in(tmp_path / "tours.db", backend).state is SagaState.COMPENSATED


@BACKENDS
def test_a_second_one_lets_go_at_once_and_blames_nobody(backend: str, done: list[str]) -> None:
    saga = Saga[Tour](name="tour", steps=[Slower, Train])
    with pytest.raises(KeyboardInterrupt) as caught:
        list(iter_saga(saga, Tour("train dirty"), storage=MemoryStorage(), backend=backend))
    assert not hasattr(caught.value, "__notes__")
    assert "undo hotel" not in done


@pytest.fixture
def interrupted_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the first call when it has ended in the loop, and its thread is about to hear of that."""
    calls = count()

    def result(future: Future[object]) -> object:
        value = _result(future)
        if not next(calls):
            raise KeyboardInterrupt
        return value

    monkeypatch.setattr("anysaga._loop_thread._result", result)


@pytest.mark.usefixtures("interrupted_late")
@BACKENDS
def test_a_saga_that_has_just_been_opened_can_be_interrupted(backend: str, done: list[str]) -> None:
    """The thread waited for ever for the end of what nobody was inside of."""
    storage = MemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        next(iter_saga(TourSaga, Tour(), saga_id="t", storage=storage, backend=backend))
    assert (done, anyio.run(storage.load, "t").summary.state) == ([], SagaState.COMPENSATED)


@pytest.mark.usefixtures("interrupted_late")
@BACKENDS
def test_a_mediator_that_has_just_been_opened_can_be_interrupted(backend: str) -> None:
    sagas = SagaMap()
    sagas.bind(Tour, TourSaga)
    mediator = SagaMediator(sagas)
    with pytest.raises(KeyboardInterrupt), BlockingMediator(mediator, backend=backend):
        raise AssertionError
    with BlockingMediator(mediator, backend=backend) as again:
        assert again.run(Tour()).state is SagaState.COMPLETED


@pytest.mark.parametrize("door", [run_saga, lambda *args, **options: list(iter_saga(*args, **options))])
@pytest.mark.parametrize("limit", [TimeoutError, SystemExit], ids=["timeout", "exit"])
@BACKENDS
def test_what_another_handler_raises_undoes_the_saga_too(
    backend: str, limit: type[BaseException], door: Callable[..., object], done: list[str]
) -> None:
    """Task queues limit the time of their tasks so. A TimeoutError was lost, others came when the saga had ended."""

    def out_of_time(*_: object) -> None:
        raise limit("the task has taken too long")

    signal.signal(signal.SIGINT, out_of_time)
    saga = Saga[Tour](name="tour", steps=[Hotel, Hangs])
    with pytest.raises(limit, match="the task has taken too long"):
        door(saga, Tour(), backend=backend)
    assert done == ["act hotel", "undo hangs", "undo hotel"]


def test_who_waits_looks_for_signals_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes just before a wait is seen at its end only, so no wait may be without one."""
    looks: list[float | None] = []
    late: Future[str] = Future()

    class Looked(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looks.append(timeout)
            if len(looks) == 3:
                late.set_result("done")
            return self.is_set()

    monkeypatch.setattr("anysaga._loop_thread.threading.Event", Looked)
    assert _result(late) == "done"
    assert len(looks) == 3
    assert None not in looks
