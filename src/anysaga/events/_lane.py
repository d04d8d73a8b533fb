"""One destination's events: leased, sent, settled, and so on for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio import current_time, move_on_after
from attrs import define, field, frozen

from anysaga._errors import StorageClosed, StorageError
from anysaga._outbox import Delivery, Outbox, Settlement
from anysaga._retry import Retry, backed_off

logger = logging.getLogger("anysaga.events")

_GIVE_BACK = 5.0
_UNTRIED = "its relay was stopped, or had no time left for it"


@frozen
class Failure:
    """Why something did not arrive: the error, and what may be said of it."""

    error: BaseException
    words: str


Results = dict[Delivery, Failure | None]
"""What became of deliveries: None for one that arrived."""

Send = Callable[[Sequence[Delivery], Results, float], Awaitable[None]]
"""Sends deliveries, and enters in the results what became of each, as soon as that is known.

The last argument is the moment, by the loop's clock, when their lease is over. What could still be under way then is
not begun: another relay may have delivered it by then, and later events of its saga too.
"""


@define(eq=False, repr=False)
class Lane:
    """Delivers what is due for one destination.

    `batch` is how many deliveries it leases at once, `lease` for how many seconds: longer than `send` may take.
    """

    outbox: Outbox
    destination: str
    send: Send
    batch: int
    lease: float
    retry: Retry
    poll: float
    _bell: anyio.Event = field(factory=anyio.Event, init=False)
    _drains: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Deliver until `drain` is called. Raises `StorageClosed`; other errors of the store are waited out."""
        failures = 0
        while not self._drains:
            try:
                found = await self.round()
            except StorageClosed:
                raise
            except StorageError as error:
                failures += 1
                logger.warning("events for %s cannot be delivered at the moment: %s", self.destination, error)
                await self._pause(backed_off(self.poll, failures))
                continue
            failures = 0
            if not found:
                await self._pause(self.poll)

    async def round(self) -> int:
        """Deliver what is due, up to a batch of it. Returns how many deliveries that were, whatever became of them."""
        self._bell = anyio.Event()  # before the look, so that what comes after it is not missed
        until = current_time() + self.lease
        deliveries = await self.outbox.lease_events(self.destination, self.batch, self.lease)
        if not deliveries:
            return 0
        results: Results = {}
        try:
            await self.send(deliveries, results, until)
        finally:
            # Also when it is cancelled: what was sent is not sent again, and the rest is free for another relay.
            with anyio.CancelScope(shield=True), move_on_after(_GIVE_BACK):
                await self._settle(deliveries, results)
        return len(deliveries)

    def wake(self) -> None:
        """Have it look now."""
        self._bell.set()

    def drain(self) -> None:
        """Lease nothing more, and have `run` return once what is under way has ended."""
        self._drains = True
        self.wake()

    async def _pause(self, seconds: float) -> None:
        if self._drains:
            return
        with move_on_after(seconds):
            await self._bell.wait()

    async def _settle(self, deliveries: Sequence[Delivery], results: Results) -> None:
        untried = [Settlement(each, _UNTRIED, wait=0.0) for each in deliveries if each not in results]
        settlements = [self._settlement(delivery, failure) for delivery, failure in results.items()]
        try:
            await self.outbox.settle_events([*settlements, *untried])
        except StorageError as error:
            logger.warning("what was sent to %s may be sent again, as it is not noted: %s", self.destination, error)

    def _settlement(self, delivery: Delivery, failure: Failure | None) -> Settlement:
        if failure is None:
            return Settlement(delivery)
        event, words = delivery.message.id, failure.words
        if delivery.attempts < self.retry.attempts and self._matches(failure.error):
            logger.warning("event %s did not arrive at %s, and comes again: %s", event, self.destination, words)
            return Settlement(delivery, words, self.retry.wait_after(delivery.attempts))
        logger.error("event %s is a dead letter for %s: %s", event, self.destination, words)
        return Settlement(delivery, words)

    def _matches(self, error: BaseException) -> bool:
        try:
            return self.retry.matches(error)
        except Exception as problem:  # noqa: BLE001 - a user's function may raise anything
            what = type(problem).__name__  # and no more of it: it may quote what is secret
            logger.error("Retry.on could not judge an error, and what failed does not come again: %s", what)  # noqa: TRY400 - as above
            return False
