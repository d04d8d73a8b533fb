"""The cases on a PostgreSQL server, which the environment names: ``ANYSAGA_POSTGRES_URL``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from benchmarks._harness import BACKENDS, TASKS, Scale, Subject, Target, compare, in_loop
from benchmarks._peers import DBOS, PYTHON_CQRS
from benchmarks._sagas import MakeStorage, sagas_at_once, sagas_one_by_one
from benchmarks._servers import database, given, store
from benchmarks._table import Row, seconds_a

_CQRS, _DBOS = "python-cqrs, asyncpg", "DBOS"
_FEW = 20


def postgres_one(scale: Scale) -> Iterator[Row]:
    """Three steps, one saga at a time."""
    times = scale.of(100, 2)
    targets = [Target.of_speed(_CQRS, at_least=2), Target.of_speed(_DBOS, at_least=3)]
    work = partial(sagas_one_by_one, times=times)
    peers = [("one_by_one_on_postgres", (times,)), ("one_by_one_on_postgres", (scale.of(40, 1),))]
    yield from _compare("PostgreSQL, 3 steps, one at a time", work, peers, targets, scale)


def postgres_at_once(scale: Scale) -> Iterator[Row]:
    """Three steps, twenty and a hundred sagas at once."""
    for tasks, times, targets in (
        (_FEW, scale.of(50, 1), [Target.of_speed(_CQRS, at_least=10), Target.of_speed(_DBOS, at_least=15)]),
        (TASKS, scale.of(20, 1), [Target.of_speed(_CQRS, at_least=15), Target.of_speed(_DBOS)]),
    ):
        crowd = scale.of(tasks, 2)
        work = partial(sagas_at_once, tasks=crowd, times=times)
        peers = [
            ("at_once_on_postgres", (crowd, scale.of(4, 1))),
            ("at_once_on_postgres", (crowd,)),
        ]
        yield from _compare(f"PostgreSQL, 3 steps, {tasks} at once", work, peers, targets, scale)


def _compare(
    case: str,
    work: Callable[[MakeStorage], Awaitable[float]],
    peers: Sequence[tuple[str, tuple[int, ...]]],
    targets: Sequence[Target],
    scale: Scale,
) -> Iterator[Row]:
    server = given()
    subjects = [
        Subject(name, _in_fresh_database(server, peer.subject_at(function, *sizes)))
        for name, peer, (function, sizes) in zip((_CQRS, _DBOS), (PYTHON_CQRS, DBOS), peers, strict=True)
    ]
    for driver in ("psycopg", "asyncpg"):
        for backend in BACKENDS:
            run = partial(_run, backend, driver, work)
            subjects.append(Subject(f"{driver}, {backend}", _in_fresh_database(server, run), targets))
    yield from compare(case, subjects, scale, rounds=5, show=seconds_a("saga"))


def _run(backend: str, driver: str, work: Callable[[MakeStorage], Awaitable[float]], address: str) -> float:
    return in_loop(backend, lambda: work(lambda: store(address, driver)))()


def _in_fresh_database(server: str | None, run: Callable[[str], float] | None) -> Callable[[], float] | None:
    if server is None or run is None:
        return None

    def turn() -> float:
        with database(server) as address:
            return run(address)

    return turn
