"""Plain-function steps, and sagas without an event loop."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tours import DONE, Hotel, Tour, TourSaga

from anysaga import (
    BlockingCallInLoop,
    BlockingRunner,
    InvalidArgument,
    MemoryStorage,
    Parallel,
    RunnerMisused,
    Saga,
    SagaParked,
    SagaState,
    SQLAlchemyStorage,
    Step,
    StorageClosed,
    StorageRefused,
    StorageUnavailable,
    checkpoint,
    current_step,
    iter_saga,
    run_saga,
    run_worker,
)
from anysaga.abc import Claim, NewSaga, Write


@pytest.fixture(autouse=True)
def done() -> list[str]:
    """What the steps write down."""
    made: list[str] = []
    DONE.set(made)
    return made


class InThread(Step[Tour, str]):
    def act(self, tour: Tour) -> str:
        tour.notes.append(threading.current_thread().name)
        anyio.from_thread.run(checkpoint)
        return current_step().key

    def compensate(self, tour: Tour) -> None:
        raise AssertionError(tour)


@pytest.mark.anyio
async def test_a_plain_step_runs_in_a_thread_and_knows_itself() -> None:
    result = await Saga[Tour](name="s", steps=[InThread]).run(Tour(), saga_id="t")
    assert result[InThread].response == "t:1:act"
    assert result.context.notes != [threading.main_thread().name]


class Deaf(Step[Tour]):
    timeout = 1.0  # its thread must have begun by then, also on a busy machine

    def __init__(self, name: str = "Deaf") -> None:
        self.name = name
        self.wake = threading.Event()

    def act(self, tour: Tour) -> None:
        tour.notes.append("began")
        self.wake.wait(20)

    def compensate(self, tour: Tour) -> None:
        raise AssertionError(tour)


@pytest.mark.anyio
async def test_a_thread_that_does_not_end_parks_the_saga_and_is_noted_later() -> None:
    """F: nothing is undone while the act may still run."""
    deaf, storage = Deaf(), MemoryStorage()
    with pytest.raises(SagaParked, match="still running"):
        await Saga[Tour](name="s", steps=[deaf], grace=0.02, storage=storage).run(Tour(), saga_id="t")
    deaf.wake.set()
    with anyio.fail_after(10):
        while (await storage.load("t")).entries[-1].kind != "NOTE":
            await anyio.lowlevel.checkpoint()
    summary = (await storage.load("t")).summary
    assert summary.state is SagaState.PARKED
    told = "its thread is still running 0.02 seconds after it was asked to end; step 'Deaf' has returned by now"
    assert summary.note == told


@pytest.mark.anyio
async def test_all_threads_that_do_not_end_are_told_of() -> None:
    """Who decides about one must know that the others still run: going on, they would be undone meanwhile."""
    storage, threads = MemoryStorage(), [Deaf("a"), Deaf("b")]
    with pytest.raises(SagaParked, match=r"still running.*; step '[ab]': its thread is still running"):
        await Saga[Tour](name="s", steps=[Parallel(*threads)], grace=0.02, storage=storage).run(Tour(), saga_id="t")
    for deaf in threads:
        deaf.wake.set()
    with anyio.fail_after(10):
        while [entry.kind for entry in (await storage.load("t")).entries[-2:]] != ["NOTE"] * 2:
            await anyio.lowlevel.checkpoint()
    note = (await storage.load("t")).summary.note or ""
    assert all(f"step '{name}' has returned by now" in note for name in "ab")


@pytest.mark.anyio
async def test_what_a_thread_writes_that_does_not_end_is_not_kept() -> None:
    """F: it may write at the very moment at which it would be read."""
    deaf, storage, tour = Deaf(), MemoryStorage(), Tour()
    with pytest.raises(SagaParked, match="still running"):
        await Saga[Tour](name="s", steps=[deaf], grace=0.02, storage=storage).run(tour, saga_id="t")
    deaf.wake.set()
    assert tour.notes == ["began"]
    assert [entry.context for entry in (await storage.load("t")).entries if entry.kind == "UNKNOWN"] == [None]


class Polite(Step[Tour]):
    timeout = 0.02

    def act(self, tour: Tour) -> None:
        while not current_step().cancelled:
            threading.Event().wait(0.001)
        raise InterruptedError

    def compensate(self, tour: Tour) -> None:
        tour.notes.append("undone")


@pytest.mark.anyio
async def test_a_thread_is_asked_to_end_and_then_undone() -> None:
    storage = MemoryStorage()
    with pytest.raises(TimeoutError):
        await Saga[Tour](name="s", steps=[Polite], storage=storage).run(Tour(), saga_id="t")
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


class HandsOver(Step[Tour, bool]):
    read_only = True

    def act(self, tour: Tour) -> Awaitable[bool]:
        async def asked_to_end() -> bool:
            return current_step().cancelled

        return asked_to_end()


@pytest.mark.anyio
async def test_a_step_that_nobody_cancels_is_not_asked_to_end_after_its_thread() -> None:
    result = await Saga[Tour](name="s", steps=[HandsOver]).run(Tour())
    assert result[HandsOver].response is False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_run_saga_keeps_its_saga_in_the_file(tmp_path: Path, backend: str) -> None:
    file = tmp_path / "tours.db"
    assert run_saga(TourSaga, Tour(), saga_id="t", storage=file, backend=backend).state is SagaState.COMPLETED
    assert run_saga(TourSaga, saga_id="t", storage=f"sqlite:///{file}")[Hotel].response == "hotel booked"


def test_a_saga_that_is_given_a_container_alone_stays_in_its_storage() -> None:
    storage = MemoryStorage()
    run_saga(TourSaga(storage=storage), Tour(), saga_id="t", container={})
    assert run_saga(TourSaga(storage=storage), saga_id="t").state is SagaState.COMPLETED


def test_run_saga_raises_the_steps_own_error() -> None:
    with pytest.raises(ConnectionError):
        run_saga(TourSaga, Tour("train dirty"))


@pytest.mark.parametrize("address", ["sqlite:///tours.db", "sqlite+aiosqlite:///tours.db"])
def test_a_storage_is_opened_and_closed_without_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Also by a driver that needs a loop."""
    monkeypatch.chdir(tmp_path)
    with SQLAlchemyStorage(address) as storage:
        assert Path("tours.db").exists()
        assert run_saga(TourSaga, Tour(), saga_id="t", storage=storage).state is SagaState.COMPLETED
        assert run_saga(TourSaga, Tour(), saga_id="t", storage=storage).state is SagaState.COMPLETED
    with pytest.raises(StorageClosed):
        run_saga(TourSaga, Tour(), saga_id="t", storage=storage)


@pytest.mark.anyio
async def test_a_storage_is_not_opened_by_with_inside_a_loop() -> None:
    with pytest.raises(BlockingCallInLoop, match="use `async with storage` instead"), MemoryStorage():
        pass


def test_breaking_out_of_iter_saga_suspends(tmp_path: Path, done: list[str]) -> None:
    file = tmp_path / "tours.db"
    for _ in iter_saga(TourSaga, Tour(), saga_id="t", storage=file):
        break
    with iter_saga(TourSaga, saga_id="t", storage=file) as steps:
        assert [step.step_name for step in steps] == ["train", "museum"]
    assert steps.result.state is SagaState.COMPLETED
    assert done == ["act hotel", "act train", "act museum"]


class Exit(Step[Tour]):
    read_only = True

    async def act(self, tour: Tour) -> None:
        sys.exit(3)


class ExitSaga(Saga[Tour]):
    steps = [Hotel, Exit]


def iterated(saga: type[Saga[Tour]], tour: Tour, *, backend: str) -> list[Any]:
    return list(iter_saga(saga, tour, backend=backend))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("run", [run_saga, iterated])
def test_a_step_that_ends_the_program_does_so_for_who_called(
    done: list[str], run: Callable[..., Any], backend: str
) -> None:
    """With the status that it says, and not with a word about a portal that is not running."""
    with pytest.raises(SystemExit) as caught:
        run(ExitSaga, Tour(), backend=backend)
    assert caught.value.code == 3
    assert done == ["act hotel", "undo hotel"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_step_that_ends_the_program_of_one_thread_leaves_the_runner_to_the_others(
    done: list[str], backend: str
) -> None:
    with BlockingRunner(backend=backend) as runner:
        with pytest.raises(SystemExit):
            runner.run(ExitSaga, Tour())
        assert runner.run(TourSaga, Tour()).state is SagaState.COMPLETED


@pytest.mark.parametrize("entered", [False, True])
def test_leaving_a_runner_suspends_what_is_still_iterated(done: list[str], entered: bool) -> None:
    """Its loop waited for it for ever."""
    storage = MemoryStorage()
    with BlockingRunner(storage=storage) as runner:
        unasked, steps = (runner.iterate(TourSaga, Tour(), saga_id=saga_id) for saga_id in "ut")
        if entered:
            steps.__enter__()
        next(steps)
    assert [*unasked, *steps] == []
    assert anyio.run(storage.load, "t").summary.owner is None
    assert run_saga(TourSaga, saga_id="t", storage=storage).state is SagaState.COMPLETED


class Full(MemoryStorage):
    """Takes no write that gives a saga back."""

    async def record(self, write: Write) -> int:
        if write.release:
            raise StorageRefused("tours.db", "the disk is full")
        return await super().record(write)


def test_leaving_a_runner_ends_all_iterations_though_some_cannot_be_suspended(done: list[str]) -> None:
    """Its loop waited for the others for ever."""
    storage = Full()
    with pytest.raises(StorageRefused, match="the disk is full"), BlockingRunner(storage=storage) as runner:
        iterators = [runner.iterate(TourSaga, Tour(), saga_id=saga_id) for saga_id in "tuv"]
        for steps in iterators:
            next(steps)
    assert [summary.owner for summary in anyio.run(storage.find)] == [None, None, None]


class SlowToBegin(MemoryStorage):
    """Takes its time to store a saga."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.begins, self.goes_on = threading.Event(), threading.Event()

    async def create(self, new: NewSaga) -> Claim | None:
        self.begins.set()
        await anyio.to_thread.run_sync(self.goes_on.wait, 20)
        return await super().create(new)


def test_leaving_a_runner_ends_an_iteration_that_another_thread_is_just_beginning(done: list[str]) -> None:
    """Its loop waited for it for ever: that thread came too late to leave it."""
    storage = SlowToBegin()
    runner = BlockingRunner(storage=storage)
    told: list[BaseException] = []

    def ask() -> None:
        try:
            next(steps)
        except RunnerMisused as error:
            told.append(error)

    with runner:
        steps = runner.iterate(TourSaga, Tour(), saga_id="t")
        asks = threading.Thread(target=ask)
        asks.start()
        assert storage.begins.wait(20)
        loop = runner._running()
        stop = loop._portal.stop

        async def stops(cancel_remaining: bool = False) -> None:
            await stop(cancel_remaining)
            storage.goes_on.set()

        loop._portal.stop = stops  # type: ignore[method-assign]
    asks.join(20)
    assert "is being left by another thread" in str(told[0])
    assert (done, anyio.run(storage.load, "t").summary.owner) == ([], None)


def test_an_iterator_that_is_closed_while_another_thread_begins_it_is_suspended(done: list[str]) -> None:
    """Its saga stayed in hand, and its loop in the process, for ever."""
    storage = SlowToBegin()
    steps = iter_saga(TourSaga, Tour(), saga_id="t", storage=storage)
    seen: list[object] = []
    asks = threading.Thread(target=lambda: seen.extend(steps))
    asks.start()
    assert storage.begins.wait(20)
    steps.close()
    storage.goes_on.set()
    asks.join(20)
    assert (seen, done, anyio.run(storage.load, "t").summary.owner) == ([], [], None)
    assert steps._runner._loop is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("ends", ["step", "runner"])
def test_an_iterator_belongs_to_one_thread_at_a_time(ends: str) -> None:
    began, goes_on, storage = threading.Event(), threading.Event(), MemoryStorage()

    class Slow(Step[Tour]):
        read_only = True

        def act(self, tour: Tour) -> None:
            began.set()
            goes_on.wait(20)

    with BlockingRunner(storage=storage) as runner:
        steps = runner.iterate(Saga[Tour](name="s", steps=[Slow]), Tour(), saga_id="t")
        thread = threading.Thread(target=lambda: list(steps))
        thread.start()
        assert began.wait(20)
        with pytest.raises(RunnerMisused, match="two threads"):
            next(steps)
        if ends == "step":
            goes_on.set()
            thread.join(20)
        else:
            threading.Timer(0.05, goes_on.set).start()
    thread.join(20)
    assert not thread.is_alive()
    assert anyio.run(storage.load, "t").summary.owner is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_iterator_that_is_collected_in_the_thread_of_its_loop_suspends(done: list[str], backend: str) -> None:
    storage = MemoryStorage()
    steps = iter_saga(TourSaga, Tour(), saga_id="t", storage=storage, backend=backend)
    next(steps)
    loop = steps._runner._loop  # type: ignore[attr-defined]  # whose thread the collector may choose
    cycle = [steps]
    cycle.append(cycle)  # type: ignore[arg-type]  # that is the point
    del steps, cycle
    loop._portal.call(gc.collect)
    loop._thread.join(20)
    assert not loop._thread.is_alive()
    assert run_saga(TourSaga, saga_id="t", storage=storage).state is SagaState.COMPLETED


@pytest.mark.anyio
@pytest.mark.filterwarnings("error")
async def test_an_iterator_that_is_collected_in_the_thread_of_a_callers_loop_suspends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was refused there as a blocking call, and its storage stayed open."""
    left: list[Any] = []

    def begin() -> None:
        DONE.set([])
        left.append(iter_saga(TourSaga, Tour(), saga_id="t", storage=tmp_path / "tours.db"))
        next(left[0])

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(20)
    loop, storage = left[0]._runner._loop._thread, left[0]._runner.storage
    left.clear()
    gc.collect()
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(loop.join, 20)
    with pytest.raises(StorageClosed):
        await storage.load("t")
    async with SQLAlchemyStorage(tmp_path / "tours.db") as again:
        assert (await again.load("t")).summary.owner is None


LEFT_HALF_WAY = """
import sys
sys.path.insert(0, {here!r})
from tours import DONE, Tour, TourSaga
from anysaga import BlockingRunner, iter_saga
DONE.set([])
runner = BlockingRunner(storage={address!r}, backend={backend!r})
{left}
print(next(steps).step_name)
"""


ITERATED = "steps = iter_saga(TourSaga, Tour(), saga_id='t', storage={address!r}, backend={backend!r})"
BY_A_RUNNER = "steps = runner.__enter__().iterate(TourSaga, Tour(), saga_id='t')"


@pytest.mark.parametrize(
    ("left", "driver", "backend"),
    [
        (ITERATED, "sqlite", "trio"),
        (ITERATED, "sqlite+aiosqlite", "asyncio"),
        (BY_A_RUNNER, "sqlite", "asyncio"),
        (BY_A_RUNNER, "sqlite+aiosqlite", "trio"),
    ],
    ids=["iter_saga-trio", "iter_saga-aiosqlite", "runner-asyncio", "runner-aiosqlite-trio"],
)
def test_a_program_that_ends_half_way_through_an_iteration_ends_and_suspends(
    tmp_path: Path, left: str, driver: str, backend: str
) -> None:
    """Its finalizer waited for ever for a loop whose thread had been stopped."""
    options = {"address": f"{driver}:///{tmp_path / 'tours.db'}", "backend": backend}
    script = LEFT_HALF_WAY.format(here=str(Path(__file__).parent), left=left.format(**options), **options)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("hotel\n", "", 0)
    with BlockingRunner(storage=tmp_path / "tours.db") as runner:
        assert runner.call(lambda: runner.storage.load("t")).summary.owner is None


def test_an_exception_inside_with_iter_saga_undoes(done: list[str]) -> None:
    with pytest.raises(KeyError), iter_saga(TourSaga, Tour()) as steps:
        for _ in steps:
            raise KeyError
    assert done == ["act hotel", "undo hotel"]


def test_threads_share_one_runner(tmp_path: Path) -> None:
    states: list[SagaState] = []
    with BlockingRunner(storage=tmp_path / "tours.db") as runner:

        def work() -> None:
            DONE.set([])
            states.append(runner.run(TourSaga, Tour()).state)

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert states == [SagaState.COMPLETED] * 5


@pytest.mark.parametrize(("saga", "storage"), [(5, None), (Tour, None), (TourSaga, 5)])
def test_what_is_no_saga_or_no_storage_is_refused(saga: Any, storage: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a"):
        run_saga(saga, Tour(), storage=storage)


def test_a_runner_is_entered_once_at_a_time() -> None:
    runner = BlockingRunner()
    for _ in range(2):
        with runner:
            with pytest.raises(RunnerMisused, match="open already"), runner:
                raise AssertionError
            assert runner.run(TourSaga, Tour()).state is SagaState.COMPLETED


def test_a_runner_that_another_thread_leaves_is_refused() -> None:
    """While that one waits for what still runs there."""
    began, goes_on = threading.Event(), threading.Event()

    class Slow(Step[Tour]):
        read_only = True

        def act(self, tour: Tour) -> None:
            began.set()
            goes_on.wait(20)

    runner = BlockingRunner(storage=MemoryStorage())
    runner.__enter__()
    runs = threading.Thread(target=runner.run, args=(Saga[Tour](name="s", steps=[Slow]), Tour()))
    leaves = threading.Thread(target=runner.__exit__, args=(None, None, None))
    runs.start()
    assert began.wait(20)
    leaves.start()
    try:
        with pytest.raises(RunnerMisused, match="is being left by another thread"):
            while True:
                runner.run(TourSaga, Tour())
    finally:
        goes_on.set()
        leaves.join(20)
        runs.join(20)
    assert not leaves.is_alive()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_runner_that_is_left_closes_its_storage_after_the_sagas_of_other_threads(
    tmp_path: Path, backend: str
) -> None:
    """It waited for them, and had taken their storage away."""
    began, goes_on = threading.Event(), threading.Event()
    states: list[SagaState] = []

    class Slow(Step[Tour]):
        read_only = True

        def act(self, tour: Tour) -> None:
            began.set()
            goes_on.wait(20)

    saga = Saga[Tour](name="s", steps=[Slow])
    with BlockingRunner(storage=tmp_path / "tours.db", backend=backend) as runner:
        thread = threading.Thread(target=lambda: states.append(runner.run(saga, Tour()).state))
        thread.start()
        assert began.wait(20)
        threading.Timer(0.05, goes_on.set).start()
    thread.join(20)
    assert states == [SagaState.COMPLETED]
    with pytest.raises(StorageClosed):
        anyio.run(runner.storage.load, "t")


class Unclosable(MemoryStorage):
    async def aclose(self) -> None:
        raise StorageUnavailable("tours.db", "the disk is gone")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_storage_that_cannot_be_closed_says_so_to_who_leaves_its_runner(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr("anysaga._saga.MemoryStorage", Unclosable)
    with pytest.raises(StorageUnavailable, match="the disk is gone"):
        run_saga(TourSaga, Tour(), backend=backend)


def test_a_runner_whose_storage_could_not_be_closed_may_be_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anysaga._saga.MemoryStorage", Unclosable)
    runner = BlockingRunner()
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="the disk is gone"), runner:
            assert runner.run(TourSaga, Tour()).state is SagaState.COMPLETED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_runner_is_refused_in_a_forked_child() -> None:
    """Its loop has stayed in the parent: a call would wait for ever, and so would leaving."""
    with BlockingRunner() as runner:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: what this test is about
            child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if _is_refused(runner) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert runner.run(TourSaga, Tour()).state is SagaState.COMPLETED


def _is_refused(runner: BlockingRunner) -> bool:
    try:
        runner.run(TourSaga, Tour())
    except RunnerMisused as error:
        runner.__exit__(None, None, None)
        return "fork" in str(error)
    return False


class RunsAnotherInAChild(Hotel):
    """As one does that has `multiprocessing` fork."""

    async def act(self, tour: Tour) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # as above
            child = os.fork()
        if child == 0:
            signal.alarm(30)
            try:
                os._exit(0 if run_saga(TourSaga, Tour()).state is SagaState.COMPLETED else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222 - nothing else is to run
        return await super().act(tour)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.anyio
async def test_a_child_that_an_asynchronous_step_forked_runs_sagas_without_a_loop() -> None:
    """The loop of the step has stayed in the parent."""
    result = await Saga[Tour](name="tour", steps=[RunsAnotherInAChild]).run(Tour())
    assert result.state is SagaState.COMPLETED


class EndsItsWorker(Hotel):
    async def act(self, tour: Tour) -> str:
        signal.raise_signal(signal.SIGINT)
        return await super().act(tour)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_waits_for_a_store_that_does_not_answer_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, done: list[str]
) -> None:
    """As it does later: a database that restarts must not end the workers that are started with it."""

    async def is_away(_: SQLAlchemyStorage) -> None:
        raise StorageUnavailable("tours.db", "it restarts")

    saga = Saga[Tour](name="tour", steps=[EndsItsWorker])
    with BlockingRunner(storage=tmp_path / "tours.db") as runner:
        runner.submit(saga, Tour())
    monkeypatch.setattr(SQLAlchemyStorage, "open", is_away)
    run_worker([saga], storage=tmp_path / "tours.db", backend=backend)
    assert done == ["act hotel"]


def test_an_iterator_that_is_over_is_not_aborted() -> None:
    steps = iter_saga(TourSaga, Tour())
    assert len(list(steps)) == 3
    with pytest.raises(RunnerMisused, match="is over"):
        steps.abort()


def test_an_iterator_that_was_closed_begins_nothing() -> None:
    storage = MemoryStorage()
    steps = iter_saga(TourSaga, Tour(), storage=storage)
    steps.close()
    with steps:
        assert list(steps) == []
    assert anyio.run(storage.find) == []


@pytest.mark.anyio
async def test_blocking_calls_are_refused_inside_a_loop() -> None:
    with pytest.raises(BlockingCallInLoop, match=r"await saga\.run"):
        run_saga(TourSaga, Tour())
    with pytest.raises(BlockingCallInLoop, match="async with"):
        next(iter_saga(TourSaga, Tour()))


SCRIPT = """
import os, signal, sys, threading, anyio
sys.path.insert(0, {here!r})
from tours import DONE, Tour, TourSaga, Train
from anysaga import run_saga
done = []
DONE.set(done)
act = Train.act
async def interrupted(self, tour):
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
    return await act(self, tour)
Train.act = interrupted
try:
    run_saga(TourSaga, Tour("train slow"), saga_id="t", storage={file!r})
except KeyboardInterrupt:
    print(done)
"""


def test_ctrl_c_undoes_and_is_raised_again(tmp_path: Path) -> None:
    """I8, in a process of its own."""
    script = SCRIPT.format(here=str(Path(__file__).parent), file=str(tmp_path / "tours.db"))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.strip() == "['act hotel', 'act train', 'undo train', 'undo hotel']", ended.stderr
