"""The events of a mediator's sagas, on their way to handlers and to the broker."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
from anyio import CancelScope

from anysaga._cancellations import refusing_strays
from anysaga._errors import StorageClosed, StorageError
from anysaga._event_map import EventMap
from anysaga._wiring import GivenContainer
from anysaga.abc import Outbox, Publisher, Storage
from anysaga.events import EventRelay

logger = logging.getLogger("anysaga.mediator")


class Deliveries:
    """Relays events while the mediator is open; and where it is not, once a saga has ended.

    Does nothing where there are neither handlers nor a publisher, or the storage keeps no events.
    """

    def __init__(
        self,
        storage: Storage,
        maps: Iterable[EventMap],
        publisher: Publisher | None,
        container: GivenContainer | None,
        *,
        max_concurrent: int,
        concurrent: bool,
    ) -> None:
        known = list(maps)
        self._scope: CancelScope | None = None  # belongs to a loop
        self._publisher = publisher
        self._relay: EventRelay | None = None
        if isinstance(storage, Outbox) and (publisher is not None or any(events.targets for events in known)):
            self._relay = EventRelay(
                storage,
                events=known,
                publisher=publisher,
                container=container,
                max_concurrent=max_concurrent,
                concurrent=concurrent,
            )

    async def open(self) -> None:
        """Get ready to publish."""
        if self._publisher is not None:
            with refusing_strays("the publisher"):
                await self._publisher.open()
        self._scope = CancelScope()  # here, so that `stop` may come before `run`
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Deliver events as they come, until `stop` is called or the storage was closed."""
        if self._relay is None or self._scope is None:
            return
        with self._scope:
            try:
                await self._relay.run()
            except StorageClosed as error:
                logger.warning("no more events are delivered: %s", error)
            finally:
                self._ended.set()

    async def finish(self) -> None:
        """Let what is under way end, then try once all that is due."""
        if self._relay is None:
            return
        self._relay.drain()
        await self._ended.wait()
        await self.flush()

    def stop(self) -> None:
        """End `run`."""
        if self._scope is not None:
            self._scope.cancel()

    async def flush(self) -> None:
        """Try all that is due, once. What cannot be delivered, or read, is left for later."""
        if self._relay is None:
            return
        try:
            await self._relay.deliver_due()
        except StorageError as error:
            logger.warning("events are left for later: %s", error)

    async def close(self) -> None:
        """End what was got ready."""
        if self._publisher is not None:
            try:
                with refusing_strays("the publisher"):
                    await self._publisher.aclose()
            except Exception:
                logger.exception("the publisher could not be closed")
