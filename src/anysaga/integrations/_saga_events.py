"""The response that watches a saga's stored log, and tells what is new."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio import CancelScope, create_task_group, current_time, move_on_after
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from anysaga._arguments import check_seconds
from anysaga._definition import Definition
from anysaga._errors import (
    AnysagaError,
    MediatorClosed,
    SagaAlreadyRunning,
    SagaMismatch,
    SagaNotFound,
    StaleFence,
    StorageClosed,
    StorageUnavailable,
)
from anysaga._records import SagaRecord
from anysaga._shield import give_back
from anysaga.integrations._progress_events import BEFORE_ALL, ProgressEvent, progress_events
from anysaga.mediator import SagaMediator, SagaStream

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second one is for nginx, which would wait

_DRIVEN_ELSEWHERE = (SagaAlreadyRunning, StaleFence)
_SHUT_DOWN = (MediatorClosed, StorageClosed)
_LOOKS = 5
"""After how many looks at a saga that somebody else drives its owner is asked for."""


class SagaEvents(Response):
    """Server-sent events of one saga; `saga_events` makes it, and says what it tells.

    `stream` is the saga's, if it is to be driven; a client that goes away leaves it. `start` is told at once, for a
    saga that is not stored yet. `after` is the number of the last entry that the client has seen.

    The log of the store is what is told, so that it is the same whoever drives the saga; the mediator's stream only
    says when to look. Where somebody else drives the saga, and goes away, it is taken up here. A store that does not
    answer is asked again. When the mediator or the store is closed, the response ends, and the client comes back to
    another process.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        mediator: SagaMediator,
        saga_id: str,
        *,
        stream: SagaStream[Any] | None = None,
        start: ProgressEvent | None = None,
        after: int = BEFORE_ALL,
        poll: float = 1.0,
        keep_alive: float = 15.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_seconds(poll=poll, keep_alive=keep_alive)
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.init_headers({**_HEADERS, **(headers or {})})
        self._mediator = mediator
        self._saga_id = saga_id
        self._stream = stream
        self._start = start
        self._after = after
        self._poll = poll
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - what ASGI gives
        """Tell all there is, until the saga's end or until the client goes away."""
        watch = _Watch(self, send)
        problem: Exception | None = None
        async with create_task_group() as group:
            group.start_soon(watch.until_gone, receive, group.cancel_scope)
            group.start_soon(watch.drive)
            try:
                await watch.tell()
                await watch.driven.wait()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group, which would wrap it
                problem = error
            group.cancel_scope.cancel()
        if problem is not None:
            raise problem
        if self.background is not None:
            await self.background()


class _Watch:
    """One client that is being told."""

    def __init__(self, response: SagaEvents, send: Send) -> None:
        self._response = response
        self._send = send
        self._after = response._after
        self._definition: Definition | None = None
        self._moved = anyio.Event()
        self._failure: Exception | None = None
        self._told = anyio.Event()
        self._sent_at = current_time()
        self.driven = anyio.Event()

    async def until_gone(self, receive: Receive, scope: CancelScope) -> None:
        """Cancel `scope` when the client goes away before it was told all."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._told.is_set():
            scope.cancel()

    async def drive(self) -> None:
        """Follow the mediator's stream. Where somebody else drives the saga, take it up once nobody does."""
        stream = self._response._stream
        try:
            while stream is not None:
                await self._follow(stream)
                stream = stream._again() if await self._is_left_by_others() else None
        finally:
            self.driven.set()
            self._wake()

    async def _follow(self, stream: SagaStream[Any]) -> None:
        """See a saga to its end. What it raises is in its log; what kept it from its end is remembered."""
        self._failure = None
        try:
            async for _ in stream:
                self._wake()
        except Exception as error:  # noqa: BLE001 - judged once the log was looked at
            self._failure = error

    async def _is_left_by_others(self) -> bool:
        """Wait until a saga that somebody else drives is over, or free: its owner was stopped, or has died."""
        response = self._response
        storage, saga_id = response._mediator.storage, response._saga_id
        while isinstance(self._failure, _DRIVEN_ELSEWHERE):
            with move_on_after(_LOOKS * response._poll):
                await self._told.wait()
            if self._told.is_set():
                return False
            try:  # of the store alone: a stream would call middlewares each time
                claim = await storage.claim(saga_id)
                await give_back(storage, claim)
            except (SagaAlreadyRunning, StaleFence, StorageUnavailable):
                continue
            except AnysagaError:
                return False  # it has ended meanwhile, or who looks at its log meets the same error
            return True
        return False

    async def tell(self) -> None:
        """Send everything, and keep the connection alive meanwhile."""
        response = self._response
        await self._send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        if response._start is not None:
            await self._write(self._text(response._start))
        while True:
            moved = self._moved  # before the look, so that nothing that happens meanwhile is slept through
            if await self._look():
                break
            await self._rest(moved)
        self._told.set()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _look(self) -> bool:
        """Tell what is new in the log. Returns whether that was all."""
        driven = self.driven.is_set()
        try:
            record = await self._response._mediator.storage.load(self._response._saga_id)
        except StorageUnavailable:
            return False
        except StorageClosed:
            return True
        except SagaNotFound as missing:
            if driven:
                raise self._failure or missing from None
            return False
        await self._write("".join(map(self._text, self._news(record))))
        return record.summary.state.is_end or (driven and self._is_left_alone())

    def _news(self, record: SagaRecord) -> list[ProgressEvent]:
        if self._definition is None:
            # An application that does not have this saga tells the names of its steps, and no responses.
            with suppress(SagaMismatch):
                self._definition = self._response._mediator.sagas.stored(record.summary).definition
        return progress_events(record, self._definition, after=self._after)

    def _is_left_alone(self) -> bool:
        """Whether the saga, which is not at its end, is no longer driven here; raises what kept it from its end."""
        failure = self._failure
        if failure is None or isinstance(failure, _DRIVEN_ELSEWHERE):
            return False
        if isinstance(failure, _SHUT_DOWN):
            return True
        raise failure

    def _text(self, event: ProgressEvent) -> str:
        if event.id is not None:
            self._after = event.id
        return event.as_text()

    async def _rest(self, moved: anyio.Event) -> None:
        with move_on_after(min(self._response._poll, self._response._keep_alive)):
            await moved.wait()
        if current_time() - self._sent_at >= self._response._keep_alive:
            await self._write(": keep-alive\n\n")

    async def _write(self, text: str) -> None:
        if text:
            self._sent_at = current_time()
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    def _wake(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
