"""python-cqrs: the same saga in memory, by its bare transaction and by its mediator. It runs on asyncio only."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from benchmarks._harness import at_once
from benchmarks._servers import with_driver

# Names of a package that need not be installed: to the type checkers all of it is Any.
cqrs: Any = import_module("cqrs")
di: Any = import_module("di")
bootstrap: Any = import_module("cqrs.bootstrap.saga")
handlers: Any = import_module("cqrs.handlers.saga")
models: Any = import_module("cqrs.saga.models")
fallback: Any = import_module("cqrs.saga.fallback")
sagas: Any = import_module("cqrs.saga.saga")
storages: Any = import_module("cqrs.saga.storage.memory")
sql: Any = import_module("cqrs.saga.storage.sqlalchemy")

_CONNECTIONS = 40


@dataclasses.dataclass
class Order(models.SagaContext):  # type: ignore[misc]
    """The same context as ours; its contexts have to be dataclasses of this base."""

    order_id: str = "order-17"
    items: list[str] = dataclasses.field(default_factory=lambda: ["tea", "a pot", "two cups"])
    total: int = 3150
    done: int = 0


@dataclasses.dataclass
class Answer(cqrs.DCResponse):  # type: ignore[misc]
    """Its responses have to be of this base."""

    text: str = ""


class Work(handlers.SagaStepHandler[Order, Answer]):  # type: ignore[misc]
    """The same step as ours."""

    async def act(self, context: Order) -> Any:
        """Do what ours does."""
        context.done += 1
        return self._generate_step_result(Answer("answer"))

    async def compensate(self, context: Order) -> None:
        """Undo it."""
        context.done -= 1


class First(Work):
    """Its steps are told apart by their classes."""


class Second(Work):
    """Another one."""


class Third(Work):
    """And another one."""


class ThreeSteps(sagas.Saga[Order]):  # type: ignore[misc]
    """The same saga as ours."""

    steps = [First, Second, Third]


class Failing(Work):
    """A primary that fails."""

    async def act(self, context: Order) -> Any:  # noqa: ARG002 - it comes to nothing
        """Fail as ours does."""
        raise ConnectionError("it does not answer")


class Substitute(Work):
    """What takes over."""


class PrimarySucceeds(sagas.Saga[Order]):  # type: ignore[misc]
    """One Fallback."""

    steps = [fallback.Fallback(step=First, fallback=Substitute)]


class PrimaryFails(sagas.Saga[Order]):  # type: ignore[misc]
    """The same, and its primary fails."""

    steps = [fallback.Fallback(step=Failing, fallback=Substitute)]


class Ready:
    """A container that has its steps already, as ours has in this comparison."""

    def __init__(self) -> None:
        self._steps = {step: step() for step in (First, Second, Third, Failing, Substitute)}

    async def resolve(self, wanted: type[Any]) -> Any:
        """The one instance."""
        return self._steps[wanted]


def transactions(times: int) -> float:
    """Seconds a saga, by ``Saga.transaction``."""
    saga, container, storage = ThreeSteps(), Ready(), storages.MemorySagaStorage()

    async def run() -> None:
        async with saga.transaction(Order(), container, storage) as transaction:
            async for _ in transaction:
                pass

    return asyncio.run(_one_by_one(times, run))


def fallbacks(times: int, fails: bool) -> float:  # noqa: FBT001 - called by position
    """Seconds a saga of one Fallback, by ``Saga.transaction``."""
    saga, container, storage = (PrimaryFails if fails else PrimarySucceeds)(), Ready(), storages.MemorySagaStorage()

    async def run() -> None:
        async with saga.transaction(Order(), container, storage) as transaction:
            async for _ in transaction:
                pass

    return asyncio.run(_one_by_one(times, run))


def mediator(times: int) -> float:
    """Seconds a saga, by ``SagaMediator.execute``, with a container of ``di`` that makes the steps."""
    container, storage = di.Container(), storages.MemorySagaStorage()
    made = bootstrap.bootstrap(
        di_container=container,
        sagas_mapper=lambda mapper: mapper.bind(Order, ThreeSteps),
        saga_storage=storage,
    )

    async def run() -> None:
        async for _ in made.execute(Order()):
            pass

    return asyncio.run(_one_by_one(times, run))


async def _one_by_one(times: int, run: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    for _ in range(times):
        await run()
    return (time.perf_counter() - began) / times


def one_by_one_on_postgres(address: str, times: int) -> float:
    """Seconds a saga in a PostgreSQL database, one after the other."""
    return asyncio.run(_on_postgres(address, lambda run: _one_by_one(times, run)))


def at_once_on_postgres(address: str, tasks: int, times: int) -> float:
    """The same with so many at once, each of the tasks so many one after the other."""
    return asyncio.run(_on_postgres(address, lambda run: at_once(tasks, times, run)))


async def _on_postgres(address: str, measure: Callable[[Callable[[], Awaitable[None]]], Awaitable[float]]) -> float:
    # A pool as large as it needs, so that nobody waits for a connection, unless the server has no more of them.
    engine = create_async_engine(with_driver(address, "asyncpg"), pool_size=_CONNECTIONS, max_overflow=0)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(sql.Base.metadata.create_all)
        storage = sql.SqlAlchemySagaStorage(async_sessionmaker(engine, expire_on_commit=False))
        saga, container = ThreeSteps(), Ready()

        async def run() -> None:
            async with saga.transaction(Order(), container, storage) as transaction:
                async for _ in transaction:
                    pass

        await run()
        return await measure(run)
    finally:
        await engine.dispose()  # noqa: ASYNC102 - nobody cancels a benchmark
