"""Circuits in a store: compare-and-set for real, between threads and between processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import anyio
import pytest
from circuit_child import CALLS, call
from server_stores import DRIVERS, Server

from anysaga import CircuitBreaker, CircuitOpen, CircuitState, MemoryStorage, SQLAlchemyStorage
from anysaga.abc import CircuitStore

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parent

Twins = tuple[CircuitStore, CircuitStore]


@pytest.fixture(params=["memory", "sqlite", "aiosqlite", *DRIVERS])
async def twins(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], Server]
) -> AsyncIterator[Twins]:
    """Give two views of one store, as two processes have them."""
    if request.param == "memory":
        memory = MemoryStorage()
        yield memory, memory.twin()
        return
    if request.param in DRIVERS:
        server = server_of(request.param)
        async with server.new_storage() as here, server.twin() as there:
            yield here, there
        return
    address = f"{'sqlite+aiosqlite' if request.param == 'aiosqlite' else 'sqlite'}:///{tmp_path / 's.db'}"
    async with SQLAlchemyStorage(address) as one, SQLAlchemyStorage(address) as two:
        yield one, two


# What every store must do


async def test_a_circuit_that_was_never_written_has_version_0(twins: Twins) -> None:
    record = await twins[0].load_circuit("bank")
    assert (record.version, record.text) == (0, "")


async def test_what_one_writes_the_other_reads(twins: Twins) -> None:
    here, there = twins
    assert await here.save_circuit("bank", "one", before=0)
    assert await there.save_circuit("bank", "two", before=1)
    record = await here.load_circuit("bank")
    assert (record.version, record.text) == (2, "two")
    assert (await here.load_circuit("post")).version == 0


@pytest.mark.parametrize("before", [0, 1, 3])
async def test_who_comes_with_another_version_changes_nothing(twins: Twins, before: int) -> None:
    here, there = twins
    await here.save_circuit("bank", "one", before=0)
    await here.save_circuit("bank", "two", before=1)
    assert not await there.save_circuit("bank", "late", before=before)
    record = await here.load_circuit("bank")
    assert (record.version, record.text) == (2, "two")


async def test_what_is_written_to_one_circuit_leaves_the_others_alone(twins: Twins) -> None:
    here, there = twins
    await here.save_circuit("post", "mine", before=0)
    await here.save_circuit("bank", "one", before=0)
    await there.save_circuit("bank", "two", before=1)
    record = await here.load_circuit("post")
    assert (record.version, record.text) == (1, "mine")


async def test_of_those_who_write_at_once_one_succeeds(twins: Twins) -> None:
    """In each of twenty rounds, the first of all included, eight writers come with the same version."""
    answers: list[tuple[int, bool]] = []

    async def write(store: CircuitStore, version: int, writer: int) -> None:
        answers.append((version, await store.save_circuit("bank", f"{version} by {writer}", before=version)))

    for version in range(20):
        async with anyio.create_task_group() as group:
            for writer in range(8):
                group.start_soon(write, twins[writer % 2], version, writer)
    assert sorted(version for version, is_written in answers if is_written) == list(range(20))


async def test_the_moment_is_that_of_the_store_in_microseconds(twins: Twins) -> None:
    before = time.time_ns() // 1000
    moment = (await twins[0].load_circuit("bank")).now
    assert before - 1_000_000 <= moment <= time.time_ns() // 1000 + 1_000_000


async def test_no_failure_is_lost_when_many_fail_at_once(twins: Twins) -> None:
    breakers = [CircuitBreaker(fail_max=10_000, shared=True) for _ in twins]

    async def fail(breaker: CircuitBreaker, store: CircuitStore) -> None:
        with pytest.raises(OSError, match="mine"):
            async with breaker.attempt("bank", store):
                raise OSError("mine")

    async with anyio.create_task_group() as group:
        for turn in range(30):
            group.start_soon(fail, breakers[turn % 2], twins[turn % 2])
    async with breakers[0].attempt("bank", twins[0]):
        assert breakers[0].circuit("bank").failures == 30


async def test_of_those_who_ask_at_once_one_is_tried(twins: Twins) -> None:
    breakers = [CircuitBreaker(reset_timeout=1e-6, shared=True) for _ in twins]
    await breakers[0].open("bank", circuits=twins[0])
    answers: list[str] = []
    all_asked = anyio.Event()

    def note(answer: str) -> None:
        answers.append(answer)
        if len(answers) == 8:
            all_asked.set()

    async def ask(breaker: CircuitBreaker, store: CircuitStore) -> None:
        try:
            async with breaker.attempt("bank", store):
                note("let through")
                await all_asked.wait()
        except CircuitOpen:
            note("refused")

    async with anyio.create_task_group() as group:
        for turn in range(8):
            group.start_soon(ask, breakers[turn % 2], twins[turn % 2])
    assert sorted(answers) == ["let through"] + ["refused"] * 7
    async with breakers[0].attempt("bank", twins[0]):
        assert breakers[0].circuit("bank").state is CircuitState.CLOSED


# What a file must do


async def test_an_open_circuit_outlives_its_process(tmp_path: Path) -> None:
    breaker = CircuitBreaker(shared=True)
    async with SQLAlchemyStorage(tmp_path / "s.db") as storage:
        await breaker.open("bank", circuits=storage)
    async with SQLAlchemyStorage(tmp_path / "s.db") as storage:
        assert await call(CircuitBreaker(shared=True), storage, fails=False) == "refused"


async def test_a_success_on_a_quiet_circuit_writes_nothing_to_the_file(tmp_path: Path) -> None:
    file, breaker = tmp_path / "s.db", CircuitBreaker(shared=True)
    async with SQLAlchemyStorage(file) as storage:
        await call(breaker, storage, fails=True)
        with closing(sqlite3.connect(file)) as other:

            def commits() -> int:
                return int(other.execute("PRAGMA data_version").fetchone()[0])

            before = commits()
            await call(breaker, storage, fails=False)
            assert (after := commits()) != before
            for _ in range(5):
                await call(breaker, storage, fails=False)
            assert commits() == after


class Child:
    """Another process, with a breaker of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.answer()

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, text: str) -> str:
        self.order(text)
        return self.answer()


@pytest.fixture
def new_child(tmp_path: Path, anyio_backend_name: str) -> Iterator[Callable[[], Child]]:
    """Start processes on one file, and end them."""
    with ExitStack() as stack:

        def start() -> Child:
            command = [sys.executable, str(HERE / "circuit_child.py"), str(tmp_path / "s.db"), anyio_backend_name]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            process = stack.enter_context(
                subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            return Child(process)

        yield start


def test_two_processes_agree_within_one_call(new_child: Callable[[], Child]) -> None:
    """Failures of both add up, and from the one that opened the circuit on, neither lets a call through."""
    one, two = new_child(), new_child()
    assert [one.ask("fail"), two.ask("fail")] == ["failed", "failed"]
    assert [one.ask("succeed"), two.ask("succeed")] == ["refused", "refused"]


def test_a_success_of_one_process_forgets_the_failure_of_another(new_child: Callable[[], Child]) -> None:
    one, two = new_child(), new_child()
    answers = [one.ask("fail"), two.ask("succeed"), one.ask("fail"), two.ask("succeed")]
    assert answers == ["failed", "went well"] * 2


async def test_no_failure_is_lost_between_processes(new_child: Callable[[], Child], tmp_path: Path) -> None:
    children = [new_child(), new_child()]
    for child in children:
        child.order("fail often")
    assert [child.answer() for child in children] == ["done", "done"]
    breaker = CircuitBreaker(fail_max=10_000, shared=True)
    async with SQLAlchemyStorage(tmp_path / "s.db") as storage, breaker.attempt("bank", storage):
        assert breaker.circuit("bank").failures == 2 * CALLS


async def test_a_process_that_dies_on_trial_blocks_the_circuit_only_for_its_lease(
    new_child: Callable[[], Child], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker(reset_timeout=1e-6, shared=True)
    async with SQLAlchemyStorage(tmp_path / "s.db") as storage:
        await breaker.open("bank", circuits=storage)
        child = new_child()
        assert child.ask("try and hang") == "let through"
        child.process.kill()
        child.process.wait()
        with pytest.raises(CircuitOpen) as caught:
            async with breaker.attempt("bank", storage):
                raise AssertionError
        assert 0 < caught.value.seconds <= 30
        await _let_the_lease_pass(storage)
        assert await call(breaker, storage, fails=False) == "went well"
        assert "anew" not in caplog.text
        assert breaker.circuit("bank").state is CircuitState.CLOSED


async def _let_the_lease_pass(storage: SQLAlchemyStorage) -> None:
    """Move the end of the lease into the past, instead of waiting for it."""
    record = await storage.load_circuit("bank")
    circuit = json.loads(record.text)
    assert circuit["trial_until"] > record.now
    circuit["trial_until"] = record.now
    assert await storage.save_circuit("bank", json.dumps(circuit), before=record.version)
