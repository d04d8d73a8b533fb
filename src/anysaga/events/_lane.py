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
_NOT_NOTED = "what was sent to %s may be sent again, as it is not noted: %s"
_UNTRIED = "its relay was stopped, or had no time left for it"
_LOST = "it was under way {times} times, and nothing was heard of its relay again, or of what it failed at"


@frozen
class Failure:
    """Why something did not arrive: the error, and what may be said of it."""

    error: BaseException
    words: str


class DestinationAway(Exception):
    """Nothing can be delivered at the moment, whatever the event."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


Results = dict[Delivery, Failure | None]
"""What became of deliveries: None for one that arrived."""

Send = Callable[[Sequence[Delivery], Results, float], Awaitable[None]]
"""Sends deliveries, and enters in the results what became of each, as soon as that is known.

The last argument is the moment, by the loop's clock, when their lease is over. What could still be under way then is
not begun: another relay may have delivered it by then, and later events of its saga too. Raises `DestinationAway`.
"""


@define(eq=False, repr=False)
class DeliveryLane:
    """Delivers what is due for one destination.

    `batch` is how many deliveries it leases at once, `lease` for how many seconds: longer than `send` may take.

    A lease that nothing was heard of again counts as an attempt, so an event whose relay dies each time is found out by
    its attempts: it is then tried once more, alone, so that nobody else's count suffers, and is a dead letter.
    """

    outbox: Outbox
    destination: str
    send: Send
    batch: int
    lease: float
    retry: Retry
    poll: float
    _bell: anyio.Event = field(factory=anyio.Event, init=False)
    _end: anyio.Event = field(factory=anyio.Event, init=False)
    _limit: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limit = self.batch

    async def run(self) -> None:
        """Deliver until `drain` is called. Raises `StorageClosed`; other errors of the store are waited out."""
        failures = 0
        while not self._end.is_set():
            try:
                found = await self.round()
            except StorageClosed:
                raise
            except (StorageError, DestinationAway) as error:
                failures += 1
                self._warn(error)
                await _pause(backed_off(self.poll, failures), self._end)  # new events make nobody come back
                continue
            failures = 0
            if not found:
                await _pause(self.poll, self._bell)

    async def deliver(self) -> int | None:
        """Deliver one batch of what is due, and return how many it tried; None if the destination is away."""
        try:
            return await self.round()
        except DestinationAway as error:
            self._warn(error)
            return None

    async def round(self) -> int:
        """Deliver what is due, up to a batch of it. Returns how many deliveries it did not give back untried.

        Raises `DestinationAway`, and `StorageError`.
        """
        self._bell = anyio.Event()  # before the look, so that what comes after it is not missed
        until = current_time() + self.lease
        deliveries = await self.outbox.lease_events(self.destination, self._limit, self.lease)
        if not deliveries:
            return 0
        results: Results = {}
        why = _UNTRIED
        try:
            chosen = () if self._end.is_set() else self._chosen(deliveries)  # it may have been told while it leased
            if chosen:
                await self.send(chosen, results, until)
        except DestinationAway as error:
            why = str(error)
            self._limit = 1  # whether it is back, one event finds out
            raise
        finally:
            # Also when it is cancelled: what was sent is not sent again, and the rest is free for another relay.
            with anyio.CancelScope(shield=True), move_on_after(_GIVE_BACK) as limit:
                await self._settle(deliveries, results, why)
            if limit.cancelled_caught:
                logger.warning(_NOT_NOTED, self.destination, f"the store took more than {_GIVE_BACK:g} s")
        self._limit = min(2 * self._limit, self.batch)
        return sum(each in results or self._is_lost(each) for each in deliveries)

    def wake(self) -> None:
        """Have it look now."""
        self._bell.set()

    def drain(self) -> None:
        """Lease nothing more, and have `run` return once what is under way has ended."""
        self._end.set()
        self.wake()

    def _chosen(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """What is sent now: all that may be sent together, or one that may be why relays died."""
        left = [each for each in deliveries if not self._is_lost(each)]
        suspects = [each for each in left if each.attempts > self.retry.attempts]
        return suspects[:1] or left

    def _is_lost(self, delivery: Delivery) -> bool:
        return delivery.attempts > self.retry.attempts + 1

    async def _settle(self, deliveries: Sequence[Delivery], results: Results, why: str) -> None:
        untried = [self._given_back(each, why) for each in deliveries if each not in results]
        settlements = [self._settlement(delivery, failure) for delivery, failure in results.items()]
        try:
            await self.outbox.settle_events([*settlements, *untried])
        except StorageError as error:
            logger.warning(_NOT_NOTED, self.destination, error)

    def _given_back(self, delivery: Delivery, why: str) -> Settlement:
        if not self._is_lost(delivery):
            return Settlement(delivery, why, wait=0.0, counts=False)
        words = _LOST.format(times=delivery.attempts - 1)
        logger.error("event %s is a dead letter for %s: %s", delivery.message.id, self.destination, words)
        return Settlement(delivery, words)

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

    def _warn(self, error: Exception) -> None:
        logger.warning("events for %s cannot be delivered at the moment: %s", self.destination, error)


async def _pause(seconds: float, end: anyio.Event) -> None:
    with move_on_after(seconds):
        await end.wait()
