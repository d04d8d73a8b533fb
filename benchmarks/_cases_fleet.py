"""The cases of a fleet on PostgreSQL: interrupted sagas, one worker and two, and a table full of finished sagas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import _crowds, _fleet
from benchmarks._harness import BACKENDS, TASKS, Scale, Subject, Target, compare, in_loop
from benchmarks._processes import in_own_process
from benchmarks._sagas import sagas_at_once, sagas_one_by_one
from benchmarks._servers import database, given, store, with_driver
from benchmarks._table import Row, kibibytes, limited, seconds_a

_MOST_GROWTH = 1


def postgres_recovery(scale: Scale) -> Iterator[Row]:
    """Finishing sagas of a process that died in their first steps, beside as many fresh ones."""
    server, sagas = given(), scale.of(10_000, 100)
    growth: list[float] = []

    def recovered(server: str) -> float:
        with database(server) as address:
            url = with_driver(address, "psycopg")
            in_own_process(_crowds.in_flight, "asyncio", url, sagas)
            _fleet.expire_leases(url)
            cost, grown = in_own_process(_crowds.recovering, "asyncio", url, sagas)
        growth.append(grown)
        return cost

    def fresh(server: str) -> float:
        with database(server) as address:
            (cost,) = in_own_process(_crowds.fresh, "asyncio", with_driver(address, "psycopg"), sagas)
        return cost

    subjects = [
        Subject("fresh", _on(server, fresh)),
        Subject("recovered", _on(server, recovered), [Target.of_speed("fresh", at_least=0.5)]),
    ]
    case = f"PostgreSQL, {sagas:,} interrupted sagas, {TASKS} at once"
    yield from compare(case, subjects, scale, rounds=3, show=seconds_a("saga"), warm_up=False)
    if growth:
        grown = sorted(growth)[len(growth) // 2]
        text = f"{kibibytes(grown)} a saga"
        yield Row(case, "growth of the process", text, [limited(grown, _MOST_GROWTH, kibibytes)])


def postgres_workers(scale: Scale) -> Iterator[Row]:
    """Submitted sagas, finished by one worker process and by two."""
    server, sagas = given(), scale.of(4_000, 40)

    def finished_by(workers: int, server: str) -> float:
        with database(server) as address:
            return _fleet.finished_by(workers, with_driver(address, "psycopg"), sagas)

    subjects = [
        Subject("one worker", _on(server, partial(finished_by, 1))),
        Subject("two workers", _on(server, partial(finished_by, 2)), [Target.of_speed("one worker", at_least=1.3)]),
    ]
    case = f"PostgreSQL, {sagas:,} submitted sagas"
    yield from compare(case, subjects, scale, rounds=3, show=seconds_a("saga"), warm_up=False)


def postgres_finished(scale: Scale) -> Iterator[Row]:
    """New sagas in tables that are full of finished ones, beside empty ones."""
    server, finished = given(), scale.of(100_000, 50)
    if server is None:
        yield from compare("PostgreSQL, beside finished sagas", [Subject("empty", None)], scale, rounds=1, show=str)
        return
    one, tasks, times = scale.of(100, 2), scale.of(TASKS, 2), scale.of(10, 1)
    with database(server) as empty, database(server) as full:
        in_loop("asyncio", partial(_fleet.fill_with_finished, with_driver(full, "psycopg"), finished))()
        for how, work in (
            ("one at a time", partial(sagas_one_by_one, times=one)),
            (f"{tasks} at once", partial(sagas_at_once, tasks=tasks, times=times)),
        ):
            for backend in BACKENDS[:1]:
                subjects = [
                    Subject("empty tables", in_loop(backend, partial(work, partial(store, empty, "psycopg")))),
                    Subject(
                        f"tables with {finished:,}",
                        in_loop(backend, partial(work, partial(store, full, "psycopg"))),
                        [Target.of_cost("empty tables", at_most=1.1)],
                    ),
                ]
                case = f"PostgreSQL, beside {finished:,} finished sagas, {how}"
                yield from compare(case, subjects, scale, rounds=9, show=seconds_a("saga"))


def _on(server: str | None, run: Callable[[str], float]) -> Callable[[], float] | None:
    return None if server is None else partial(run, server)
