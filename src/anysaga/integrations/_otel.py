"""OpenTelemetry spans of sagas and their steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from anysaga._errors import MissingPackage
from anysaga._middleware import Middleware, NextSaga, NextStep, SagaCall, StepCall
from anysaga._records import SagaState
from anysaga._results import SagaResult

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingPackage("opentelemetry-api", "otel") from error

_TRACEPARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()

_inside: ContextVar[tuple[object, str, trace.Span] | None] = ContextVar("anysaga_saga_span", default=None)
"""The saga that runs in this task: the middleware, the saga's id, and its span."""


class OpenTelemetryMiddleware(Middleware):
    """Makes a span for each run of a saga, and below it one for each call of a step.

    They are called ``saga NAME``, ``recover NAME``, ``step NAME`` and ``compensate NAME``. The span of a recovery is
    linked to that of the run which began the saga, wherever that was: the log keeps its trace context. A step's span is
    current while the step is called; that of a saga never is, so it does not leak into code that looks at results.

    Of errors a span has the type alone, and of contexts and responses nothing, since any of them may hold a secret.
    `tracer_provider` is the global one by default.

        OrderSaga(storage=storage, middlewares=[OpenTelemetryMiddleware()])
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("anysaga", tracer_provider=tracer_provider)
        self._spans: dict[str, list[trace.Span]] = {}  # the first of an id is the one that runs it

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        """Make the span of a saga."""
        attributes = {"saga.id": call.saga_id, "saga.name": call.saga}
        name = f"{'recover' if call.recovers else 'saga'} {call.saga}"
        span = self._tracer.start_span(name, attributes=attributes, links=list(_links(call.notes)))
        if not call.recovers:
            _note(call, span)
        self._spans.setdefault(call.saga_id, []).append(span)
        outer = _inside.get()
        _inside.set((self, call.saga_id, span))
        try:
            with _failing(span):
                result = await call_next()
            span.set_attribute("saga.state", result.state.value)
            if result.state in (SagaState.PARKED, SagaState.COMPENSATED):
                span.set_status(trace.StatusCode.ERROR)
        finally:
            _inside.set(outer)  # by no token: a transaction may be left in another task
            self._forget(call.saga_id, span)
            span.end()
        return result

    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        """Make the span of a step, and make it current meanwhile."""
        attributes: dict[str, str | int] = {
            "saga.id": call.saga_id,
            "saga.name": call.saga,
            "saga.step.name": call.step,
            "saga.step.path": call.path,
            "saga.step.attempt": call.attempt,
        }
        saga = self._span_of(call.saga_id)
        with (
            self._tracer.start_as_current_span(
                f"{'step' if call.verb == 'act' else 'compensate'} {call.step}",
                context=None if saga is None else trace.set_span_in_context(saga),
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            _failing(span),
        ):
            return await call_next()

    def _span_of(self, saga_id: str) -> trace.Span | None:
        inside = _inside.get()
        if inside is not None and inside[:2] == (self, saga_id):  # another store may have a saga of this id, too
            return inside[2]
        return next(iter(self._spans.get(saga_id, ())), None)  # a transaction that another task goes on with

    def _forget(self, saga_id: str, span: trace.Span) -> None:
        spans = self._spans[saga_id]
        spans.remove(span)
        if not spans:
            del self._spans[saga_id]


@contextmanager
def _failing(span: trace.Span) -> Iterator[None]:
    """Say in the span what type of error comes out, and nothing else of it."""
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(trace.StatusCode.ERROR)
        raise


def _note(call: SagaCall, span: trace.Span) -> None:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    if _TRACEPARENT in carrier:
        call.note(f"{_TRACEPARENT} {carrier[_TRACEPARENT]}")


def _links(notes: Iterable[str]) -> Iterator[trace.Link]:
    for note in notes:
        kind, _, value = note.partition(" ")
        if kind == _TRACEPARENT:
            context = _PROPAGATOR.extract({_TRACEPARENT: value})
            yield trace.Link(trace.get_current_span(context).get_span_context())
