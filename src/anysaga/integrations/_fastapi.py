"""Sagas in a FastAPI application: open for its lifetime, at hand in its endpoints, and watched by its clients."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

from anysaga._errors import InvalidArgument, MissingPackage, SagaMismatch, SagaNotFound
from anysaga._ids import identity_of
from anysaga._live_context import LiveContext
from anysaga._records import SagaRecord
from anysaga._submitting import refuse_other_payload
from anysaga.integrations._progress_events import BEFORE_ALL, start_event
from anysaga.mediator import SagaMediator

try:
    from fastapi import Depends, HTTPException, Request, Response
    from fastapi.requests import HTTPConnection
except ImportError as error:
    raise MissingPackage("fastapi", "fastapi") from error

from anysaga.integrations._saga_events import SagaEvents

_STATE = "saga_mediator"


def mediator_lifespan(
    mediator: SagaMediator,
) -> Callable[[object], AbstractAsyncContextManager[dict[str, Any]]]:
    """Open a mediator and its storage for an application's lifetime, and close both with it.

        app = FastAPI(lifespan=mediator_lifespan(mediator))

    At shutdown the mediator drains first; then the storage is closed, for good: an application that is to live again,
    in another test for instance, is made again, with a new storage. In an application with a lifespan of its own, enter
    this one there, and hand on what it gives:

        @asynccontextmanager
        async def lifespan(app):
            async with mediator_lifespan(mediator)(app) as state:
                yield {**state, "mine": 1}

    Raises `InvalidArgument` for what is no mediator, such as a function that makes one.
    """
    if not isinstance(mediator, SagaMediator):
        raise InvalidArgument("mediator", mediator, "give a SagaMediator, as in SagaMediator(sagas)")

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, Any]]:  # noqa: ARG001 - what a lifespan is given
        async with mediator.storage, mediator:
            yield {_STATE: mediator}

    return lifespan


def mediator_of(connection: HTTPConnection) -> SagaMediator:
    """The mediator of the application's lifespan: what `MediatorDep` depends on, for ``app.dependency_overrides``.

    Raises `InvalidArgument` where no `mediator_lifespan` has opened one.
    """
    found = getattr(connection.state, _STATE, None)
    if not isinstance(found, SagaMediator):
        words = "make the application with `lifespan=mediator_lifespan(mediator)`, the outermost one if it is mounted"
        raise InvalidArgument("lifespan", found, words)
    return found


MediatorDep = Annotated[SagaMediator, Depends(mediator_of)]
"""The mediator of the application's lifespan, as an argument of an endpoint: ``mediator: MediatorDep``."""


async def saga_events(
    mediator: SagaMediator,
    context: object = None,
    *,
    saga_id: str | uuid.UUID | None = None,
    request: Request | None = None,
    poll: float = 1.0,
    keep_alive: float = 15.0,
) -> Response:
    """Answer with a saga's progress as server-sent events, for `EventSource` and its like.

    With a `context` its saga is started, or goes on if it is stored and nobody drives it; without one, a stored saga is
    only watched. The mediator drives the saga: a client that goes away disconnects, as from `SagaMediator.stream`.

    Each event is JSON with a `type`: `start`, `step`, `compensation`, `error` and `end`. Its id is the number of the
    entry in the saga's stored log, so a client that comes back with ``Last-Event-ID`` (taken from `request`) is told
    exactly the rest, by whichever process has the same store. `poll` is the number of seconds after which the store is
    asked again where nobody tells: another request or process drives the saga, or it goes back. `keep_alive` is the
    number of seconds after which a comment is sent if there is nothing to tell.

    Give the `saga_id` that the client chose, or it cannot come back. A client that has seen the end, or comes back
    without naming a saga, gets 204, which stops an `EventSource`. A saga that is not stored (any more) is 404, what
    cannot be an id is 422, and an id that is taken by other work is 409. Raises `ContextNotMapped`, `NotStorable`,
    `StorageError`.

        @app.get("/orders/{order_id}/events")
        async def watch(order_id: str, item: str, mediator: MediatorDep, request: Request) -> Response:
            return await saga_events(mediator, Order(item), saga_id=order_id, request=request)
    """
    seen = _last_seen(request)
    if saga_id is None and context is None:
        raise InvalidArgument("saga_id", None, "give the saga_id of a stored saga, or a context to start with")
    if saga_id is None and seen != BEFORE_ALL:
        return Response(status_code=204)
    identity = _identity(saga_id)
    record = await _stored(mediator, identity)
    if record is None and (context is None or seen > 0):
        raise HTTPException(404, str(SagaNotFound(identity)))
    if record is not None and seen > record.summary.seq:
        seen = BEFORE_ALL  # it speaks of another log: an earlier saga of this id, or none at all
    if context is not None:
        _refuse(mediator, context, record)
    if record is not None and record.summary.state.is_end:
        if seen >= record.summary.seq:
            return Response(status_code=204)
        context = None  # nothing is left to drive
    if context is None:
        return SagaEvents(mediator, identity, after=seen, poll=poll, keep_alive=keep_alive)
    definition = mediator.sagas.of(context).definition
    return SagaEvents(
        mediator,
        identity,
        stream=mediator.stream(context, saga_id=identity),
        start=start_event(identity, definition.name, definition.outline) if record is None and seen < 0 else None,
        after=seen,
        poll=poll,
        keep_alive=keep_alive,
    )


def _last_seen(request: Request | None) -> int:
    text = "" if request is None else request.headers.get("last-event-id", "")
    return int(text) if text.isdecimal() and len(text) < 19 else BEFORE_ALL  # noqa: PLR2004 - 64 bits


def _identity(saga_id: str | uuid.UUID | None) -> str:
    try:
        return identity_of(saga_id)
    except InvalidArgument as error:
        raise HTTPException(422, str(error)) from error


async def _stored(mediator: SagaMediator, saga_id: str) -> SagaRecord | None:
    try:
        return await mediator.storage.load(saga_id)
    except SagaNotFound:
        return None


def _refuse(mediator: SagaMediator, context: object, record: SagaRecord | None) -> None:
    """Say now what cannot work: once the answer has begun it is too late for a status."""
    definition = mediator.sagas.of(context).definition
    if record is None:
        LiveContext(definition, context).encode()
        return
    try:
        refuse_other_payload(definition, record, context)
    except SagaMismatch as error:
        raise HTTPException(409, str(error)) from error
