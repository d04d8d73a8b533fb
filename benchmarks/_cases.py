"""The cases: each a function from a scale to rows of the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from anysaga import MemoryStorage
from benchmarks import _cases_branches as branches
from benchmarks import _cases_crowds as crowds
from benchmarks import _cases_fleet as fleet
from benchmarks import _cases_mediation as mediation
from benchmarks import _cases_publishers as publishers
from benchmarks import _cases_servers as servers
from benchmarks import _cases_steps as steps
from benchmarks._files import hosted, numbered, threaded
from benchmarks._floors import bare_commits, same_rows
from benchmarks._harness import BACKENDS, TASKS, Scale, Subject, Target, compare, in_loop
from benchmarks._peers import DBOS, PYTHON_CQRS
from benchmarks._sagas import MakeStorage, sagas_at_once, sagas_one_by_one
from benchmarks._table import Row, seconds_a


@frozen
class Case:
    """A named case. One that takes long is left out unless it is named, or all are asked for."""

    name: str
    rows: Callable[[Scale], Iterator[Row]]
    takes_long: bool = False


def in_memory(scale: Scale) -> Iterator[Row]:
    """A whole saga of three steps, nothing durable."""
    times = scale.of(500, 2)
    bare, mediated = "python-cqrs, transaction", "python-cqrs, mediator with di"
    # It does not run on Trio: there it is its asyncio that ours is held beside, and nothing is asked.
    against = {
        "asyncio": [Target.of_speed(bare, at_least=1.5, goal=3), Target.of_speed(mediated)],
        "trio": [Target.of_speed(bare), Target.of_speed(mediated)],
    }
    subjects = [
        Subject(bare, PYTHON_CQRS.subject("transactions", times)),
        Subject(mediated, PYTHON_CQRS.subject("mediator", times)),
        *(
            Subject(backend, in_loop(backend, partial(sagas_one_by_one, MemoryStorage, times)), against[backend])
            for backend in BACKENDS
        ),
    ]
    yield from compare("in memory, 3 steps", subjects, scale, rounds=9, show=seconds_a("saga"))


def sqlite_one(scale: Scale) -> Iterator[Row]:
    """The same in a SQLite file with full durability, one at a time."""
    times = scale.of(100, 2)
    floor, shipped, peer = "bare sqlite3, 4 commits", "DBOS as it comes", "DBOS with WAL"
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        ours = _on_sqlite(
            files,
            lambda make: sagas_one_by_one(make, times),
            [Target.of_cost(floor, at_most=2.5, goal=1.5), Target.of_speed(peer, at_least=5), Target.of_speed(shipped)],
            most_hosted=3,
        )
        subjects = [
            Subject(floor, lambda: bare_commits(next(files), times)),
            Subject(peer, DBOS.subject("one_by_one", "WAL", scale.of(40, 1))),
            Subject(shipped, DBOS.subject("one_by_one", "DELETE", scale.of(40, 1))),
            *ours,
        ]
        yield from compare("SQLite FULL, 3 steps, one at a time", subjects, scale, rounds=7, show=seconds_a("saga"))


def sqlite_at_once(scale: Scale) -> Iterator[Row]:
    """A hundred sagas at once in a SQLite file with full durability."""
    tasks, times = scale.of(TASKS, 3), scale.of(20, 1)
    floor, shipped, peer = "Core executemany, same rows", "DBOS as it comes", "DBOS with WAL"
    narrow = f"{peer}, 2 threads"
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        ours = _on_sqlite(
            files,
            lambda make: sagas_at_once(make, tasks, times),
            [
                Target.of_speed(floor, at_least=0.4, goal=0.67),
                Target.of_speed(peer, at_least=50, goal=100),
                Target.of_speed(narrow),
                Target.of_speed(shipped),
            ],
            most_hosted=1.5,
        )
        subjects = [
            Subject(floor, lambda: same_rows(next(files), tasks, times)),
            Subject(peer, DBOS.subject("at_once", "WAL", tasks)),
            Subject(narrow, DBOS.subject("at_once", "WAL", tasks, 2)),
            Subject(shipped, DBOS.subject("at_once", "DELETE", tasks)),
            *ours,
        ]
        yield from compare(f"SQLite FULL, 3 steps, {tasks} at once", subjects, scale, rounds=5, show=seconds_a("saga"))


def _on_sqlite(
    files: Iterator[Path],
    work: Callable[[MakeStorage], Awaitable[float]],
    targets: Sequence[Target],
    *,
    most_hosted: float,
) -> list[Subject]:
    """Ours on both loops, on either kind of driver; the hosted one is held against the one in threads."""
    subjects: list[Subject] = []
    for backend in BACKENDS:
        name = f"threads, {backend}"
        run = in_loop(backend, partial(work, lambda: threaded(next(files))))
        subjects.append(Subject(name, run, targets))
    for backend in BACKENDS:
        run = in_loop(backend, partial(work, lambda: hosted(next(files))))
        subjects.append(
            Subject(f"aiosqlite, {backend}", run, [Target.of_cost(f"threads, {backend}", at_most=most_hosted)])
        )
    return subjects


CASES = (
    Case("memory", in_memory),
    Case("sqlite", sqlite_one),
    Case("sqlite-at-once", sqlite_at_once),
    Case("long-sagas-memory", steps.long_sagas_in_memory),
    Case("long-sagas-sqlite", steps.long_sagas_in_sqlite),
    Case("fallback", branches.fallbacks),
    Case("fallback-peer", branches.fallback_beside_peer),
    Case("parallel", branches.parallel),
    Case("postgres", servers.postgres_one),
    Case("postgres-at-once", servers.postgres_at_once),
    Case("mediator", mediation.mediator),
    Case("relay", mediation.relay),
    Case("rabbitmq", publishers.rabbitmq),
    Case("kafka", publishers.kafka),
    Case("import", steps.import_time),
    Case("in-flight", crowds.in_flight, takes_long=True),
    Case("recovery", crowds.recovery, takes_long=True),
    Case("finished", crowds.beside_finished, takes_long=True),
    Case("postgres-recovery", fleet.postgres_recovery, takes_long=True),
    Case("postgres-workers", fleet.postgres_workers, takes_long=True),
    Case("postgres-finished", fleet.postgres_finished, takes_long=True),
)
