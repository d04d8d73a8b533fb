"""Handing messages to a handler."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from anyio import CapacityLimiter, create_task_group, current_time, fail_after, get_cancelled_exc_class, move_on_after
from attrs import define

from anysaga._cancellations import NATIVE_IS_OWN, asks_to_end, is_cancelled, refusing_strays
from anysaga._crossing_threads import in_thread
from anysaga._errors import NoCurrentMessage, NotReadable, StrayCancellation
from anysaga._event_map import Binding, EventHandler, Target
from anysaga._outbox import Delivery, Message
from anysaga._snapshot import error_in_words
from anysaga._wiring import wire
from anysaga.abc import Container, Scope

from ._lane import Failure, Results

logger = logging.getLogger("anysaga.containers")

_CLOSING = 5.0
"""Seconds that a scope may take to close; within what a lease has to spare."""

_MESSAGE: ContextVar[Message] = ContextVar("anysaga_current_message")


def current_message() -> Message:
    """The message that is handled here: the id to know an event by that comes twice, its saga, its moment.

    Works in handlers, in what they call, and in their worker threads. Raises `NoCurrentMessage` anywhere else.
    """
    try:
        return _MESSAGE.get()
    except LookupError:
        raise NoCurrentMessage from None


@define(eq=False, repr=False)
class _ClosedAnyway:
    """A container's scope that is closed also when its handler was cancelled: what it holds must not stay open."""

    manager: AbstractAsyncContextManager[Scope]

    async def __aenter__(self) -> Scope:
        return await self.manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with move_on_after(_CLOSING, shield=True) as limit:
            await self.manager.__aexit__(kind, error, traceback)
        if limit.cancelled_caught:
            logger.error("the scope of a handler was not closed within %g s", _CLOSING)


@define(eq=False, repr=False)
class Handling:
    """Calls a handler for its events, each with a scope of the container of its own.

    `limit` is shared by all handlers. `timeout` is in seconds. A plain function runs in a worker thread, and is waited
    for even if its time is over, since it cannot be stopped.
    """

    target: Target
    container: Container
    timeout: float
    limit: CapacityLimiter
    threads: CapacityLimiter

    async def handle_all(self, deliveries: Sequence[Delivery], results: Results, until: float) -> None:
        """Hand events to the handler, as many at once as the limit lets, if they can end before `until`."""
        begun: list[Delivery] = []
        async with create_task_group() as group:
            for delivery in deliveries:
                group.start_soon(self._handle, delivery, results, begun, until - self.timeout - _CLOSING)
        for delivery in begun:
            if delivery not in results:  # and nobody stopped us, so its handler cancelled its own task
                stray = StrayCancellation(_where(delivery))
                results[delivery] = Failure(stray, str(stray))

    async def _handle(self, delivery: Delivery, results: Results, begun: list[Delivery], latest: float) -> None:
        message = delivery.message
        secrets: Sequence[str] = ()
        async with self.limit:
            if current_time() > latest:
                return
            begun.append(delivery)
            _MESSAGE.set(message)
            try:
                binding = self._binding(message)
                event = binding.codec.decode(message.data, where=f"the event {message.type}")
                secrets = binding.codec.secrets(event)
                with refusing_strays(_where(delivery)), fail_after(self.timeout):
                    await self._call(event)
                results[delivery] = None
            except BaseException as error:  # noqa: ASYNC103 - whatever it is, the event comes again
                if isinstance(error, get_cancelled_exc_class()) and not is_cancelled(NATIVE_IS_OWN):
                    return  # noqa: ASYNC104 - the task is ours: let out of it, this would cancel the others
                if asks_to_end(error):
                    raise
                results[delivery] = Failure(error, error_in_words(error, secrets))

    async def _call(self, event: Any) -> None:
        handler: Any = self.target.handler
        if not isinstance(handler, type):
            await self._invoke(handler, event)
            return
        async with _ClosedAnyway(self.container.scope()) as scope:
            made: EventHandler[Any] = await wire(handler, scope)
            await self._invoke(made.handle, event)

    async def _invoke(self, function: Any, event: Any) -> None:
        if inspect.iscoroutinefunction(function):
            result = await function(event)
        else:
            result = await in_thread(function, event, limiter=self.threads)
        if inspect.isawaitable(result):  # a forgotten `await`, too: what was called has not begun
            await result

    def _binding(self, message: Message) -> Binding:
        binding = self.target.types.get(message.type)
        if binding is None:
            raise NotReadable(f"the event {message.type}", "its handler is not bound to events of this name any more")
        return binding


def _where(delivery: Delivery) -> str:
    return f"the handler of event {delivery.message.id}"
