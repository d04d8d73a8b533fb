"""The cases that take long: ten thousand sagas in flight or interrupted, a hundred thousand finished."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks import _crowds
from benchmarks._files import numbered, threaded
from benchmarks._harness import BACKENDS, TASKS, Scale, Subject, Target, compare, in_loop
from benchmarks._processes import in_own_process
from benchmarks._sagas import sagas_at_once, sagas_one_by_one
from benchmarks._table import Comparison, Row, kibibytes, limited, seconds_a

_MOST_IN_FLIGHT, _MOST_GROWTH = 12, 1


def in_flight(scale: Scale) -> Iterator[Row]:
    """The memory that a saga takes while its step waits, beside the bare task that the loop needs for it."""
    sagas = scale.of(10_000, 20)
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        for backend in _backends(scale):
            works: list[tuple[str, Callable[[], list[float]]]] = [
                ("a bare task that waits", partial(in_own_process, _crowds.waiting_tasks, backend, sagas)),
                ("in memory", partial(in_own_process, _crowds.in_flight, backend, "", sagas)),
                ("SQLite", partial(in_own_process, _crowds.in_flight, backend, str(next(files)), sagas)),
            ]
            for name, work in works:
                (size,) = work()
                limits = [] if "task" in name else [limited(size, _MOST_IN_FLIGHT, kibibytes)]
                yield Row(f"{sagas:,} sagas in flight, {backend}", name, f"{kibibytes(size)} each", limits)


def recovery(scale: Scale) -> Iterator[Row]:
    """Finishing sagas of a process that died in their first steps, beside as many fresh ones."""
    sagas = scale.of(10_000, 100)
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        for backend in _backends(scale):
            growth: list[float] = []

            def recovered(backend: str = backend, growth: list[float] = growth) -> float:
                cost, grown = in_own_process(_crowds.recovering, backend, str(_interrupted(next(files), sagas)), sagas)
                growth.append(grown)
                return cost

            def fresh(backend: str = backend) -> float:
                (cost,) = in_own_process(_crowds.fresh, backend, str(next(files)), sagas)
                return cost

            subjects = [
                Subject("fresh", fresh),
                Subject("recovered", recovered, [Target.of_speed("fresh", at_least=0.5)]),
            ]
            case = f"{sagas:,} interrupted sagas, {TASKS} at once, {backend}"
            yield from compare(case, subjects, scale, rounds=3, show=seconds_a("saga"), warm_up=False)
            grown = statistics.median(growth)
            yield Row(case, "growth of the process", f"{kibibytes(grown)} a saga", [_flat(grown)])


def beside_finished(scale: Scale) -> Iterator[Row]:
    """New sagas in a file that is full of finished ones, beside an empty file."""
    finished = scale.of(100_000, 50)
    one, tasks, times = scale.of(100, 2), scale.of(TASKS, 2), scale.of(10, 1)
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        full = next(files)
        anyio.run(_crowds.fill_with_finished, full, finished)
        for backend in BACKENDS:
            for how, work, most in (
                ("one at a time", partial(sagas_one_by_one, times=one), 1.1),
                (f"{tasks} at once", partial(sagas_at_once, tasks=tasks, times=times), None),
            ):
                subjects = [
                    Subject("empty file", in_loop(backend, partial(work, lambda: threaded(next(files))))),
                    Subject(
                        f"file with {finished:,}",
                        in_loop(backend, partial(work, lambda: threaded(full))),
                        [Target.of_cost("empty file", at_most=most)],
                    ),
                ]
                case = f"beside {finished:,} finished sagas, {how}, {backend}"
                yield from compare(case, subjects, scale, rounds=9, show=seconds_a("saga"))


def _backends(scale: Scale) -> Sequence[str]:
    """Both loops. Processes take a while to start, so a quick run has one."""
    return BACKENDS[: scale.of(len(BACKENDS), 1)]


def _interrupted(file: Path, sagas: int) -> Path:
    """A file with so many sagas whose process died while their first steps acted."""
    in_own_process(_crowds.in_flight, "asyncio", str(file), sagas)
    _crowds.expire_leases(file)
    return file


def _flat(grown: float) -> Comparison:
    return limited(grown, _MOST_GROWTH, kibibytes)
