"""What a mediator and events cost, beside the bare saga."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from attrs import define

from anysaga import MemoryStorage, Middleware, NextStep, Saga, SagaMap, SagaMediator, StepCall, current_step
from anysaga.abc import Storage
from anysaga.events import EventRelay
from anysaga.events.publishers import DevnullPublisher
from benchmarks._files import numbered, threaded
from benchmarks._harness import BACKENDS, TASKS, Scale, Subject, Target, at_once, compare, in_loop, one_by_one
from benchmarks._sagas import STEPS, MakeStorage, Order, Work, saga_of, sagas_one_by_one
from benchmarks._table import Row, duration, seconds_a


@define
class Happened:
    """An event of a common size."""

    order_id: str
    done: int


class Telling(Work):
    """A step that records an event."""

    async def act(self, order: Order) -> str:
        current_step().record(Happened(order.order_id, order.done))
        return await super().act(order)


class Around(Middleware):
    """Does nothing but stand there."""

    async def step(self, call: StepCall, call_next: NextStep) -> Any:  # noqa: ARG002
        return await call_next()


def mediator(scale: Scale) -> Iterator[Row]:
    """A mediator with one middleware around each step, beside the bare saga in memory."""
    times = scale.of(500, 2)
    for backend in BACKENDS:
        subjects = [
            Subject("bare saga", in_loop(backend, partial(sagas_one_by_one, MemoryStorage, times))),
            Subject(
                "mediator with a middleware",
                in_loop(backend, partial(_mediated, times)),
                [Target.of_cost("bare saga", at_most=1.5)],
            ),
        ]
        yield from compare(
            f"mediator, in memory, 3 steps, {backend}", subjects, scale, rounds=9, show=seconds_a("saga")
        )


def relay(scale: Scale) -> Iterator[Row]:
    """Events of a SQLite store to the publisher that does nothing, beside the sagas that record one each."""
    tasks, times = scale.of(TASKS, 3), scale.of(20, 1)
    with TemporaryDirectory() as folder:
        files = numbered(folder)
        for backend in BACKENDS:
            sagas = f"sagas with an event, {tasks} at once"
            subjects = [
                Subject(sagas, in_loop(backend, partial(_telling, lambda: threaded(next(files)), tasks, times))),
                Subject(
                    "events relayed",
                    in_loop(backend, partial(_relayed, lambda: threaded(next(files)), tasks, times)),
                    [Target.of_speed(sagas, at_least=1)],
                ),
            ]
            yield from compare(f"relay, SQLite FULL, {backend}", subjects, scale, rounds=5, show=_each)


def _each(seconds: float) -> str:
    return f"{duration(seconds)} each"


async def _mediated(times: int) -> float:
    sagas = SagaMap()
    storage = MemoryStorage()
    sagas.bind(Order, saga_of(STEPS, storage))
    async with SagaMediator(sagas, storage=storage, middlewares=[Around()]) as mediator:
        await mediator.run(Order())
        return await one_by_one(times, lambda: mediator.run(Order()))


async def _telling(make: MakeStorage, tasks: int, times: int) -> float:
    async with make() as storage:
        return await _run(storage, tasks, times)


async def _relayed(make: MakeStorage, tasks: int, times: int) -> float:
    async with make() as storage:
        await _run(storage, tasks, times)
        began = perf_counter()
        delivered = await EventRelay(storage, publisher=DevnullPublisher()).deliver_due()
        return (perf_counter() - began) / delivered


async def _run(storage: Storage, tasks: int, times: int) -> float:
    steps = [Telling("step-0"), *(Work(f"step-{number}") for number in range(1, STEPS))]
    saga = Saga[Order](name="telling", steps=steps, storage=storage)
    await saga.run(Order())
    return await at_once(tasks, times, lambda: saga.run(Order()))
