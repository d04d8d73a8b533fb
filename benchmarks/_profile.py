"""Where the time of a saga goes, by layer: probes at the seams between them, in a run of its own.

The seams are the codec, the verbs of the storage, and the calls of the driver. One saga at a time, exactly one thread
works at any moment, so a single clock is handed from layer to layer and the shares add up. Of sagas that run at once,
the loop and the thread that commits overlap: then each thread has a clock, the loop's of processor time and that of
the other one of real time, and the sum may exceed the whole.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import sqlalchemy as sa
from attrs import define, field

from anysaga import MemoryStorage, SQLAlchemyStorage
from anysaga._snapshot import Codec
from anysaga.abc import Storage
from benchmarks._files import threaded
from benchmarks._harness import BACKENDS, TASKS, Scale, at_once, in_loop
from benchmarks._sagas import STEPS, Order, saga_of
from benchmarks._table import duration

ENGINE = "engine: steps, log, decisions"
SNAPSHOT = "snapshot: contexts and answers to JSON"
MEMORY = "store: in memory"
WAY = "store: group commit, to its thread and back"
ROWS = "store: SQLAlchemy, and values to rows"
STATEMENTS = "SQLite: statements"
COMMIT = "SQLite: commits"
_IDLE = "idle"

PROFILES = ("memory", "sqlite", "sqlite-at-once")

_T = TypeVar("_T")


@define
class _Clock:
    """Time spent, by layer: whoever enters a layer stops the one outside of it."""

    read: Callable[[], float]
    layer: str
    since: float
    spent: dict[str, float] = field(factory=lambda: defaultdict[str, float](float))

    def switch(self, layer: str) -> str:
        """Enter a layer. Returns the one before."""
        now = self.read()
        self.spent[self.layer] += now - self.since
        before, self.layer, self.since = self.layer, layer, now
        return before


class _Probe:
    """The clocks of one run: a single one, or one for each thread."""

    def __init__(self, *, overlapping: bool) -> None:
        self.overlapping = overlapping
        self.clocks: list[_Clock] = []
        self._own = threading.local()
        self._first = self._start(time.thread_time if overlapping else time.perf_counter, ENGINE)
        self._own.clock = self._first
        self._after_commit = _IDLE if overlapping else WAY

    def here(self) -> _Clock:
        """The clock that runs in this thread."""
        if not self.overlapping:
            return self._first
        if not hasattr(self._own, "clock"):
            self._own.clock = self._start(time.perf_counter, _IDLE)
        clock: _Clock = self._own.clock
        return clock

    def timed(self, layer: str, func: Callable[..., _T]) -> Callable[..., _T]:
        """The same function, whose time counts for a layer."""

        @wraps(func)
        def wrapper(*arguments: Any, **options: Any) -> _T:
            clock = self.here()
            before = clock.switch(layer)
            try:
                return func(*arguments, **options)
            finally:
                clock.switch(before)

        return wrapper

    def of_driver(self, layer: str, func: Callable[..., _T]) -> Callable[..., _T]:
        """The same function of the driver. Between its calls lies the work of the store's thread, until the commit."""

        @wraps(func)
        def wrapper(driver: Any, *arguments: Any) -> _T:
            clock = self.here()
            commits = layer == COMMIT or (arguments and str(arguments[0]).startswith("COMMIT"))
            clock.switch(COMMIT if commits else STATEMENTS)
            try:
                return func(driver, *arguments)
            finally:
                clock.switch(self._after_commit if commits else ROWS)

        return wrapper

    def watch(self, storage: Storage, layer: str) -> Storage:
        """The same storage, the time of whose verbs counts for a layer, unless they overlap."""
        for verb in () if self.overlapping else ("create", "record", "confirm", "release"):
            setattr(storage, verb, self._awaited(layer, getattr(storage, verb)))
        return storage

    def _awaited(self, layer: str, verb: Callable[..., Awaitable[_T]]) -> Callable[..., Awaitable[_T]]:
        async def wrapper(*arguments: Any, **options: Any) -> _T:
            before = self._first.switch(layer)
            try:
                return await verb(*arguments, **options)
            finally:
                self._first.switch(before)

        return wrapper

    def forget(self) -> None:
        """Begin to count now, while the engine works and nothing else."""
        for clock in self.clocks:
            clock.switch(ENGINE if clock is self._first else _IDLE)
            clock.spent.clear()

    def spent(self) -> dict[str, float]:
        """Seconds by layer."""
        total: dict[str, float] = defaultdict(float)
        for clock in self.clocks:
            if clock is self.here():
                clock.switch(clock.layer)
            for layer, seconds in clock.spent.items():
                total[layer] += seconds
        return total

    def _start(self, read: Callable[[], float], layer: str) -> _Clock:
        clock = _Clock(read, layer, read())
        self.clocks.append(clock)
        return clock


def print_profile(case: str, scale: Scale) -> None:
    """Print where the time goes, on both loops."""
    overlapping = case == "sqlite-at-once"
    for backend in BACKENDS:
        plain, _ = _run(case, backend, scale, None)
        probe = _Probe(overlapping=overlapping)
        with _probes_on(probe):
            probed, spent = _run(case, backend, scale, probe)
        print(f"{case}, {backend}: {duration(plain)} a saga, {duration(probed)} with the probes on\n")
        print("| layer | of a saga | share |\n|---|--:|--:|")
        for layer, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            if layer != _IDLE:
                print(
                    f"| {layer}{_kind(layer, overlapping=overlapping)} | {duration(seconds)} | {seconds / probed:.0%} |"
                )
        print(flush=True)


def _kind(layer: str, *, overlapping: bool) -> str:
    if not overlapping:
        return ""
    return {ENGINE: ", group commit (loop)", SNAPSHOT: " (loop)"}.get(layer, " (thread)")


def _run(case: str, backend: str, scale: Scale, probe: _Probe | None) -> tuple[float, dict[str, float]]:
    """Seconds a saga, and of them by layer."""
    tasks, times = (TASKS, scale.of(20, 1)) if case == "sqlite-at-once" else (1, scale.of(300, 2))
    spent: dict[str, float] = {}

    async def main() -> float:
        async with _store(case, folder, probe) as storage:
            saga = saga_of(STEPS, storage)
            await saga.run(Order())
            if probe is not None:
                probe.forget()
            cost = await at_once(tasks, times, lambda: saga.run(Order()))
            if probe is not None:
                spent.update(probe.spent())
            return cost

    with TemporaryDirectory() as folder:
        cost = in_loop(backend, main)()
    return cost, {layer: seconds / (tasks * times) for layer, seconds in spent.items()}


def _store(case: str, folder: str, probe: _Probe | None) -> Storage:
    file = Path(folder) / "sagas.db"
    if probe is None:
        return MemoryStorage() if case == "memory" else threaded(file)
    if case == "memory":
        return probe.watch(MemoryStorage(), MEMORY)
    factory = {"factory": _timed_connections(probe)}
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool, connect_args=factory)
    return probe.watch(SQLAlchemyStorage(engine), WAY)


@contextmanager
def _probes_on(probe: _Probe) -> Iterator[None]:
    """Time what the engine calls of the snapshots."""
    plain = {name: getattr(Codec, name) for name in ("encode", "decode", "restore", "secrets")}
    for name, func in plain.items():
        setattr(Codec, name, probe.timed(SNAPSHOT, func))
    try:
        yield
    finally:
        for name, func in plain.items():
            setattr(Codec, name, func)


def _timed_connections(probe: _Probe) -> type[sqlite3.Connection]:
    """A class of connections whose calls are timed; each statement goes through a cursor."""

    class TimedCursor(sqlite3.Cursor):
        execute = probe.of_driver(STATEMENTS, sqlite3.Cursor.execute)
        executemany = probe.of_driver(STATEMENTS, sqlite3.Cursor.executemany)
        fetchall = probe.of_driver(STATEMENTS, sqlite3.Cursor.fetchall)
        fetchone = probe.of_driver(STATEMENTS, sqlite3.Cursor.fetchone)

    class TimedConnection(sqlite3.Connection):
        commit = probe.of_driver(COMMIT, sqlite3.Connection.commit)

        def cursor(self, factory: Any = None) -> Any:  # noqa: ARG002
            return super().cursor(TimedCursor)

    return TimedConnection
