"""Spans of sagas and steps, as the SDK of OpenTelemetry exports them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import pytest
from journeys import CARD, Journey, Leg, PlainLeg, hangs_once, lost_in, raises, saga_of

from anysaga import (
    MemoryStorage,
    Middleware,
    NextSaga,
    Saga,
    SagaAlreadyRunning,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaTransaction,
    recover_saga,
)
from anysaga.abc import EntryKind, Storage

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from anysaga.integrations import OpenTelemetryMiddleware

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


class Spans:
    """Makes the middleware, and has what it exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.middleware = OpenTelemetryMiddleware(self.provider)

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.all if span.name == name]
        return span


class Notes(Middleware):
    async def saga(self, call: SagaCall, call_next: NextSaga) -> Any:
        call.note("a note")
        return await call_next()


@pytest.fixture
def spans() -> Spans:
    return Spans()


def identity(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_saga_and_its_steps_are_one_trace(storage: Storage, did: list[str], spans: Spans) -> None:
    saga = saga_of(storage, Leg("a", did), PlainLeg("b", did), middlewares=[spans.middleware])
    await saga.run(Journey(), saga_id="j")
    assert spans.names == ["step a", "step b", "saga journey"]
    root = spans.named("saga journey")
    assert root.parent is None
    assert [parent(spans.named(name)) for name in ("step a", "step b")] == [identity(root)] * 2
    assert attributes(root) == {"saga.id": "j", "saga.name": "journey", "saga.state": "COMPLETED"}
    assert attributes(spans.named("step b")) == {
        "saga.id": "j",
        "saga.name": "journey",
        "saga.step.name": "b",
        "saga.step.path": "2",
        "saga.step.attempt": 1,
    }


async def test_undos_and_failures_are_spans_with_the_type_of_the_error_alone(
    storage: Storage, did: list[str], spans: Spans
) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=raises(OSError(CARD))), middlewares=[spans.middleware])
    with pytest.raises(OSError):  # noqa: PT011 - this very one
        await saga.run(Journey())
    assert spans.names == ["step a", "step b", "compensate b", "compensate a", "saga journey"]
    for name in ("step b", "saga journey"):
        assert attributes(spans.named(name))["error.type"] == "OSError"
        assert spans.named(name).status.status_code is trace.StatusCode.ERROR
    assert spans.named("compensate a").status.is_unset
    assert CARD not in "".join(span.to_json() for span in spans.all)


async def test_a_steps_span_is_current_in_the_step_and_no_span_is_in_the_callers_loop(
    storage: Storage, did: list[str], spans: Spans
) -> None:
    """Neither while the caller looks at a step, nor after the saga, nor in a mediator."""
    inside: list[str] = []

    async def act(journey: Journey) -> None:
        span = trace.get_current_span()
        assert isinstance(span, ReadableSpan)
        inside.append(span.name)

    saga = saga_of(storage, Leg("a", did, act=act), Leg("b", did, act=act), middlewares=[spans.middleware])
    async with saga.transaction(Journey()) as transaction:
        async for _ in transaction:
            assert trace.get_current_span() is trace.INVALID_SPAN
    sagas = SagaMap()
    sagas.bind(Journey, saga)
    async for _ in SagaMediator(sagas, storage=storage).stream(Journey()):
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert inside == ["step a", "step b"] * 2


async def test_a_saga_belongs_to_the_trace_of_its_caller(storage: Storage, did: list[str], spans: Spans) -> None:
    """In a mediator's task, too."""
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did)))
    async with SagaMediator(sagas, storage=storage, middlewares=[spans.middleware]) as mediator:
        with spans.provider.get_tracer("test").start_as_current_span("request"):
            await mediator.run(Journey())
    assert parent(spans.named("saga journey")) == identity(spans.named("request"))


async def test_a_second_start_that_is_refused_takes_no_step_out_of_the_trace(did: list[str], spans: Spans) -> None:
    """As when a browser comes back for a saga that still runs."""
    began, goes_on = anyio.Event(), anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        await goes_on.wait()

    saga = saga_of(MemoryStorage(), Leg("a", did, act=act), Leg("b", did), middlewares=[spans.middleware])
    async with anyio.create_task_group() as group:
        group.start_soon(partial(saga.run, Journey(), saga_id="j"))
        await began.wait()
        with pytest.raises(SagaAlreadyRunning):
            await saga.run(Journey(), saga_id="j")
        goes_on.set()
    refused, first = (span for span in spans.all if span.name == "saga journey")
    assert attributes(refused)["error.type"] == "SagaAlreadyRunning"
    assert [parent(spans.named(name)) for name in ("step a", "step b")] == [identity(first)] * 2


async def test_sagas_of_one_id_in_two_stores_have_their_own_traces(did: list[str], spans: Spans) -> None:
    """As where each tenant has a database of its own."""
    began: list[Journey] = []
    all_began = anyio.Event()

    async def act(journey: Journey) -> None:
        began.append(journey)
        if len(began) == 2:
            all_began.set()
        await all_began.wait()

    async with anyio.create_task_group() as group:
        for _ in range(2):
            saga = saga_of(MemoryStorage(), Leg("a", did, act=act), middlewares=[spans.middleware])
            group.start_soon(partial(saga.run, Journey(), saga_id="j"))
    sagas = [identity(span) for span in spans.all if span.name == "saga journey"]
    assert sorted(parent(span) or () for span in spans.all if span.name == "step a") == sorted(sagas)


async def test_a_transaction_that_another_task_goes_on_with_stays_in_its_trace(did: list[str], spans: Spans) -> None:
    saga = saga_of(MemoryStorage(), Leg("a", did), Leg("b", did), middlewares=[spans.middleware])
    opened: list[SagaTransaction[Journey]] = []

    async def enter() -> None:
        opened.append(await saga.transaction(Journey()).__aenter__())

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
    (transaction,) = opened
    async for _ in transaction:
        pass
    await transaction.__aexit__(None, None, None)
    root = spans.named("saga journey")
    assert [parent(spans.named(name)) for name in ("step a", "step b")] == [identity(root)] * 2


async def test_of_two_transactions_in_one_task_each_has_its_own_trace(did: list[str], spans: Spans) -> None:
    saga = saga_of(MemoryStorage(), Leg("a", did), Leg("b", did), middlewares=[spans.middleware])
    async with saga.transaction(Journey(), saga_id="j") as one, saga.transaction(Journey(), saga_id="k") as other:
        for _ in range(2):
            await anext(one)
            await anext(other)
    sagas = {attributes(span)["saga.id"]: identity(span) for span in spans.all if span.name.startswith("saga")}
    steps = [span for span in spans.all if span.name.startswith("step")]
    assert [parent(span) for span in steps] == [sagas[attributes(span)["saga.id"]] for span in steps]


async def test_of_two_middlewares_each_has_a_trace_of_its_own(did: list[str], spans: Spans) -> None:
    other = Spans()
    saga = saga_of(MemoryStorage(), Leg("a", did), middlewares=[spans.middleware, other.middleware])
    await saga.run(Journey())
    for each in (spans, other):
        assert parent(each.named("step a")) == identity(each.named("saga journey"))


async def test_nothing_is_kept_of_a_saga_that_is_over(did: list[str], spans: Spans) -> None:
    saga = saga_of(MemoryStorage(), Leg("a", did), middlewares=[spans.middleware])
    await saga.run(Journey())
    assert spans.middleware._spans == {}


async def test_without_a_tracer_sagas_run_as_ever(did: list[str]) -> None:
    """As where the package is there, and nobody has set it up."""
    middleware = OpenTelemetryMiddleware(trace.NoOpTracerProvider())
    await saga_of(MemoryStorage(), Leg("a", did), middlewares=[middleware]).run(Journey())
    assert did == ["act a"]


async def test_a_recovery_that_undoes_the_saga_is_an_error(did: list[str], spans: Spans) -> None:
    """Although it raises none."""
    storage, began = MemoryStorage(), anyio.Event()

    async def act(journey: Journey) -> None:
        if began.is_set():
            raise OSError
        began.set()
        await anyio.sleep_forever()

    saga = saga_of(storage, Leg("a", did, act=act), middlewares=[spans.middleware])
    await lost_in(began, storage, partial(saga.run, Journey(), saga_id="j"))
    await recover_saga(saga, "j")
    recovery = spans.named("recover journey")
    assert attributes(recovery)["saga.state"] == "COMPENSATED"
    assert recovery.status.status_code is trace.StatusCode.ERROR


async def test_a_recovery_is_linked_to_the_run_that_began_the_saga(did: list[str], spans: Spans) -> None:
    """Also by another middleware object, as in another process: the log keeps the trace context, among other notes."""
    storage, began = MemoryStorage(), anyio.Event()
    leg = Leg("a", did, act=hangs_once(began))
    first = saga_of(storage, leg, middlewares=[Notes(), spans.middleware])
    await lost_in(began, storage, partial(first.run, Journey(), saga_id="j"))
    later = Spans()
    await recover_saga(saga_of(storage, leg, middlewares=[later.middleware]), "j")
    assert later.names == ["step a", "recover journey"]
    recovery = later.named("recover journey")
    assert recovery.parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in recovery.links] == [
        identity(spans.named("saga journey"))
    ]


async def test_notes_of_a_middleware_go_along_with_the_first_write(storage: Storage, did: list[str]) -> None:
    saga: Saga[Journey] = saga_of(storage, Leg("a", did), middlewares=[Notes()])
    await saga.run(Journey(), saga_id="j")
    entries = (await storage.load("j")).entries
    assert [entry.error for entry in entries if entry.kind is EntryKind.NOTE] == ["a note"]
    assert entries[0].at == entries[1].at
