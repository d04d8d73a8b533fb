"""Tasks that a mediator keeps for one saga after another."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

import anyio
import pytest
from anyio import TaskInfo, get_current_task
from attrs import define, field
from drives import eventually_ended
from journeys import Journey, Leg, hangs_once

from anysaga import SagaMediator, SagaState, current_step
from anysaga.abc import Storage
from anysaga.mediator._pool import IDLE, TaskPool

pytestmark = pytest.mark.anyio

Mediators = Callable[..., SagaMediator]

ASKER: ContextVar[str] = ContextVar("asker", default="nobody")


@define(eq=False)
class Job:
    """A piece of work: it notes its task, and does what is given."""

    does: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint
    ended: anyio.Event = field(factory=anyio.Event)
    task: TaskInfo | None = None

    async def __call__(self) -> None:
        self.task = get_current_task()
        await self.does()

    def end(self) -> None:
        self.ended.set()


@asynccontextmanager
async def opened() -> AsyncIterator[TaskPool]:
    async with anyio.create_task_group() as group:
        pool = TaskPool(group)
        try:
            yield pool
        finally:
            pool.close()


async def done(pool: TaskPool, job: Job) -> Job:
    pool.start(job)
    await job.ended.wait()
    return job


async def test_a_task_does_one_piece_of_work_after_another() -> None:
    async with opened() as pool:
        first, second = await done(pool, Job()), await done(pool, Job())
        assert first.task == second.task != get_current_task()


async def test_work_shares_its_task_with_none_meanwhile() -> None:
    goes_on = anyio.Event()
    async with opened() as pool:
        jobs = [Job(goes_on.wait) for _ in range(IDLE + 3)]
        for job in jobs:
            pool.start(job)
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
        await anyio.wait_all_tasks_blocked()
        assert len({job.task.id for job in jobs if job.task is not None}) == len(jobs)


async def test_no_more_tasks_are_kept_than_said() -> None:
    goes_on = anyio.Event()
    async with opened() as pool:
        for _ in range(IDLE + 3):
            pool.start(Job(goes_on.wait))
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
        await anyio.wait_all_tasks_blocked()
        assert len(pool._idle) == IDLE


async def test_each_has_the_context_variables_of_its_caller() -> None:
    """Over all its waiting, and what it sets is seen by nobody else."""
    seen: list[str] = []

    async def look() -> None:
        seen.append(ASKER.get())
        await anyio.lowlevel.checkpoint()
        seen.append(ASKER.get())
        ASKER.set("myself")

    async with opened() as pool:
        for asker in ("ann", "bob"):
            token = ASKER.set(asker)
            await done(pool, Job(look))
            ASKER.reset(token)
        await done(pool, Job(look))
    assert seen == ["ann", "ann", "bob", "bob", "nobody", "nobody"]
    assert ASKER.get() == "nobody"


async def test_a_task_that_waits_keeps_nothing_of_what_it_did() -> None:
    """Neither the work nor what its caller's context variables refer to."""

    async def start() -> tuple[weakref.ref[object], weakref.ref[object]]:
        job, request = Job(), Request()
        token = REQUEST.set(request)
        await done(pool, job)
        REQUEST.reset(token)
        return weakref.ref(job), weakref.ref(request)

    async with opened() as pool:
        kept = await start()
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert [ref() for ref in kept] == [None, None]


class Request:
    """What a context variable may refer to."""


REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


async def test_work_that_is_cancelled_takes_no_other_along() -> None:
    async with opened() as pool:
        hanging = Job(anyio.sleep_forever)
        scope = pool.start(hanging)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await hanging.ended.wait()
        other = await done(pool, Job())
        assert other.task != hanging.task


async def test_nothing_around_the_pool_cancels_work() -> None:
    goes_on, reached = anyio.Event(), anyio.Event()

    async def work() -> None:
        await goes_on.wait()
        reached.set()

    with anyio.CancelScope() as scope:
        async with opened() as pool:
            pool.start(Job(work))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            goes_on.set()
    assert reached.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("handed", [False, True])
async def test_a_task_that_is_killed_while_it_waits_leaves_nobody_waiting(anyio_backend: str, handed: bool) -> None:
    """Whether or not it was given work at that very moment."""
    tasks: list[asyncio.Task[object] | None] = []

    async def tell() -> None:
        tasks.append(asyncio.current_task())

    async with opened() as pool:
        await done(pool, Job(tell))
        await anyio.wait_all_tasks_blocked()
        job = Job()
        if handed:
            pool.start(job)
        assert tasks[0] is not None
        tasks[0].cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            if not handed:
                pool.start(job)
            await job.ended.wait()
            assert (job.task is None) is handed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_killed_while_it_waits_takes_nobody_along(anyio_backend: str) -> None:
    """Not the one who opened the pool, above all."""
    tasks, reached = list[asyncio.Task[object] | None](), False

    async def tell() -> None:
        tasks.append(asyncio.current_task())

    async with opened() as pool:
        await done(pool, Job(tell))
        await anyio.wait_all_tasks_blocked()
        assert tasks[0] is not None
        tasks[0].cancel()
        await anyio.wait_all_tasks_blocked()
        await anyio.lowlevel.checkpoint()
        reached = True
    assert reached


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_whose_work_swallowed_that_it_is_killed_ends_with_it(anyio_backend: str) -> None:
    """Kept, it would hold up `asyncio.run`, which cancels each task once and waits for it."""
    tasks: list[asyncio.Task[object] | None] = []

    async def swallow() -> None:
        tasks.append(asyncio.current_task())
        with suppress(asyncio.CancelledError):  # as the engine does, which notes how a step ended
            await anyio.sleep_forever()

    async with opened() as pool:
        killed = Job(swallow)
        pool.start(killed)
        await anyio.wait_all_tasks_blocked()
        assert tasks[0] is not None
        tasks[0].cancel()
        await killed.ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert tasks[0].done()


async def test_who_disconnects_after_the_end_leaves_the_next_saga_alone(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    """Although it runs in the same task."""
    began, ends = anyio.Event(), anyio.Event()

    async def act(journey: Journey) -> None:
        if current_step().saga_id == "k":
            began.set()
            await ends.wait()

    async with mediator_of(Leg("a", did, act=act), on_disconnect="compensate") as mediator:
        stream = mediator.stream(Journey(), saga_id="j")
        await anext(stream)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: mediator.run(Journey(), saga_id="k"))
            await began.wait()
            await stream.aclose()
            ends.set()
    assert (await storage.load("k")).summary.state is SagaState.COMPLETED


async def test_a_saga_that_is_undone_after_another_is_undone_alone(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=hangs_once(began)), on_disconnect="compensate")
    async with mediator:
        async with mediator.stream(Journey(), saga_id="j") as stream:
            await anext(stream)
            await began.wait()
        await eventually_ended(mediator)
        assert (await mediator.run(Journey(), saga_id="k")).state is SagaState.COMPLETED
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED
