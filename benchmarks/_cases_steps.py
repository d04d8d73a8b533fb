"""What a single step costs in a long saga, and what an import does."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory

from anysaga import MemoryStorage
from benchmarks._files import numbered, threaded
from benchmarks._harness import BACKENDS, Scale, Subject, Target, compare, in_loop, take_turns
from benchmarks._sagas import MakeStorage, Order, saga_of
from benchmarks._table import Row, duration, limited, seconds_a

_IMPORT_LIMIT = 0.030


def long_sagas_in_memory(scale: Scale) -> Iterator[Row]:
    """The cost of a step late in a long saga, beside one in a short saga."""
    yield from _long_sagas("in memory", MemoryStorage, scale)


def long_sagas_in_sqlite(scale: Scale) -> Iterator[Row]:
    """The same in a SQLite file."""
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        yield from _long_sagas("SQLite FULL", lambda: threaded(next(files)), scale)


def import_time(scale: Scale) -> Iterator[Row]:
    """Importing anysaga where anyio and cattrs are imported already, from compiled files: the least of all rounds."""
    with TemporaryDirectory() as folder:
        names = ("anyio, cattrs", "anyio, cattrs, anysaga")
        cache = "" if scale.quick else folder
        figures = take_turns([Subject(each, partial(_import_time, each, cache)) for each in names], scale, rounds=15)
    base, whole = (min(figures.costs[each]) for each in names)
    cost = whole - base
    yield Row("import", "anysaga over anyio and cattrs", duration(cost), [limited(cost, _IMPORT_LIMIT, duration)])


def _long_sagas(where: str, make: MakeStorage, scale: Scale) -> Iterator[Row]:
    few, many = 10, scale.of(1000, 20)
    for backend in BACKENDS:
        short = Subject(f"one of {few}", in_loop(backend, partial(_last_steps, make, few, scale.of(30, 1), 8)))
        long = Subject(
            f"one of {many:,}",
            in_loop(backend, partial(_last_steps, make, many, 1, scale.of(240, 8))),
            [Target.of_cost(short.name, at_most=1.2)],
        )
        yield from compare(f"a step, {where}, {backend}", [short, long], scale, rounds=7, show=seconds_a("step"))


async def _last_steps(make: MakeStorage, steps: int, times: int, last: int) -> float:
    """The median cost of the last steps but the very last, of so many sagas."""
    costs: list[float] = []
    async with make() as storage:
        saga = saga_of(steps, storage)
        for _ in range(times):
            async with saga.transaction(Order()) as transaction:
                moments = [time.perf_counter() async for _ in transaction]
            costs += [later - earlier for earlier, later in pairwise(moments[:-1])][-last:]
    return statistics.median(costs)


def _import_time(names: str, cache: str) -> float:
    code = f"import time; began = time.perf_counter(); import {names}; print(time.perf_counter() - began)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache} if cache else None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)  # noqa: S603
    return float(done.stdout)
