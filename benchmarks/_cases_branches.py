"""What Fallbacks, circuit breakers and Parallels cost beside plain steps, and a Fallback beside python-cqrs's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from anysaga import CircuitBreaker, Fallback, MemoryStorage, NotDone, Parallel, Saga, Step
from benchmarks._files import numbered, threaded
from benchmarks._harness import BACKENDS, Scale, Subject, Target, compare, in_loop, one_by_one
from benchmarks._peers import PYTHON_CQRS
from benchmarks._sagas import MakeStorage, Order, Work
from benchmarks._table import Row, seconds_a

_STEPS = 5
_BRANCHES = 10
_PLAIN, _FALLBACK, _BREAKER = "plain steps", "Fallbacks", "Fallbacks with breakers"


def fallbacks(scale: Scale) -> Iterator[Row]:
    """A saga of five steps, and of five Fallbacks whose primaries succeed."""
    times = scale.of(300, 2)
    for backend in BACKENDS:
        yield from _beside_plain("in memory", lambda: MemoryStorage, backend, times, most=1.25, scale=scale)
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        for backend in BACKENDS:
            yield from _beside_plain(
                "SQLite FULL",
                lambda: lambda: threaded(next(files)),
                backend,
                scale.of(60, 1),
                most=1.1,
                scale=scale,
            )


def parallel(scale: Scale) -> Iterator[Row]:
    """Ten steps in a Parallel, beside ten in a row and a bare task group of ten."""
    times, floor = scale.of(200, 2), f"{_BRANCHES} steps in a row, and a bare task group of {_BRANCHES}"
    for backend in BACKENDS:
        subjects = [
            Subject(floor, in_loop(backend, partial(_row_and_group, times))),
            Subject(
                f"Parallel of {_BRANCHES}",
                in_loop(backend, partial(_sagas, MemoryStorage, [Parallel(*_idle(_BRANCHES))], times)),
                [Target.of_cost(floor, at_most=1.5)],
            ),
        ]
        yield from compare(f"in memory, {backend}", subjects, scale, rounds=9, show=seconds_a("saga"))


def fallback_beside_peer(scale: Scale) -> Iterator[Row]:
    """One Fallback in memory, its primary succeeding and failing, beside python-cqrs's."""
    times = scale.of(400, 2)
    for fails, primaries in (
        (False, {"primary succeeds": Work("primary")}),
        (True, {"primary fails, and is undone": _Failing("primary"), "primary fails, not done": _Refusing("primary")}),
    ):
        peer = f"python-cqrs, primary {'fails' if fails else 'succeeds'}"
        subjects = [
            Subject(peer, PYTHON_CQRS.subject("fallbacks", times, fails)),
            *(
                Subject(
                    f"{backend}, {title}",
                    in_loop(backend, partial(_sagas, MemoryStorage, [Fallback(primary, Work("fallback"))], times)),
                    [Target.of_speed(peer, at_least=1.5 if backend == "asyncio" else None)],
                )
                for title, primary in primaries.items()
                for backend in BACKENDS
            ),
        ]
        yield from compare("a Fallback in memory", subjects, scale, rounds=9, show=seconds_a("saga"))


class _Failing(Work):
    """A primary whose outcome is unknown, so that it is undone before the fallback acts."""

    async def act(self, order: Order) -> str:  # noqa: ARG002 - it comes to nothing
        raise ConnectionError("it does not answer")


class _Refusing(Work):
    """A primary that says it had no effect. As python-cqrs does with every primary that fails, nothing is undone."""

    async def act(self, order: Order) -> str:  # noqa: ARG002 - it comes to nothing
        raise NotDone("it does not answer")


class _Idle(Step[Order]):
    """A step that changes nothing, as the steps of a Parallel must not all change one field."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def act(self, order: Order) -> None:
        """Nothing."""

    async def compensate(self, order: Order) -> None:
        """Nothing."""


def _idle(count: int) -> list[_Idle]:
    return [_Idle(f"step {number}") for number in range(count)]


def _beside_plain(
    where: str, make: Callable[[], MakeStorage], backend: str, times: int, *, most: float, scale: Scale
) -> Iterator[Row]:
    works = [Work(f"step {number}") for number in range(_STEPS)]
    spares = [Work(f"spare {number}") for number in range(_STEPS)]
    guarded = [Fallback(*pair, circuit_breaker=CircuitBreaker()) for pair in zip(works, spares, strict=True)]
    shapes: dict[str, list[Any]] = {
        _PLAIN: list(works),
        _FALLBACK: [Fallback(*pair) for pair in zip(works, spares, strict=True)],
        _BREAKER: list(guarded),
    }
    subjects = [
        Subject(
            name,
            in_loop(backend, partial(_sagas, make(), steps, times)),
            [] if name == _PLAIN else [Target.of_cost(_PLAIN, at_most=most)],
        )
        for name, steps in shapes.items()
    ]
    yield from compare(f"{where}, {_STEPS} steps, {backend}", subjects, scale, rounds=9, show=seconds_a("saga"))


async def _sagas(make: MakeStorage, steps: list[Any], times: int) -> float:
    async with make() as storage:
        saga = Saga[Order](name="branches", steps=steps, storage=storage)

        async def run() -> None:
            await saga.run(Order())

        return await one_by_one(times, run)


async def _row_and_group(times: int) -> float:
    return await _sagas(MemoryStorage, list(_idle(_BRANCHES)), times) + await _groups(times)


async def _groups(times: int) -> float:
    async def nothing() -> None:
        """A task that ends at once."""

    began = time.perf_counter()
    for _ in range(times):
        async with anyio.create_task_group() as group:
            for _ in range(_BRANCHES):
                group.start_soon(nothing)
    return (time.perf_counter() - began) / times
