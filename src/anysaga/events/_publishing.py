"""Handing messages to a publisher."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Sequence

from anyio import current_time, fail_after
from attrs import define

from anysaga._cancellations import asks_to_end, refusing_strays
from anysaga._errors import InvalidArgument
from anysaga._outbox import Delivery, Publisher
from anysaga._snapshot import error_in_words

from ._lane import DestinationAway, Failure, Results

BROKER_TIME = 20.0
"""Seconds that a publisher may take."""

_EXPECTED = "have its `publish` be `async def`, and return a list with None, or an error, for each message"

_SILENT_TRIES = 7
"""A batch, its halves, and their halves: if nothing is known of any of them, it is not for one of their messages."""


@define(eq=False, repr=False)
class Publishing:
    """Sends batches, and finds out what a publisher that raises minds: some of the messages, or all there is.

    Halves of a batch that it raised for are tried on their own, and so on, while others arrive. If none does, nothing
    is held against the messages that it raised for: what it refuses may be refused without asking a broker.
    """

    publisher: Publisher

    async def publish_all(self, deliveries: Sequence[Delivery], results: Results, until: float) -> None:
        """Send deliveries, as far as there is time. Raises `DestinationAway` if it raised, and none arrived."""
        alone: Results = {}
        failure, failures = None, 0
        batches = deque([deliveries])
        while batches and current_time() <= until - BROKER_TIME:
            batch = batches.popleft()
            failed = await self._publish(batch, results)
            if failed is None:
                continue
            failure, failures = failed, failures + 1
            if failures == _SILENT_TRIES and None not in results.values():
                break
            if len(batch) == 1:
                alone[batch[0]] = failed
            else:
                middle = len(batch) // 2
                batches.extend((batch[:middle], batch[middle:]))
        if None in results.values():
            results.update(alone)
        elif failure is not None:
            raise DestinationAway(failure)

    async def _publish(self, deliveries: Sequence[Delivery], results: Results) -> Failure | None:
        """Enter what the publisher answers. Returns why it raised, if it did."""
        try:
            with refusing_strays("the publisher"), fail_after(BROKER_TIME):
                answers = await self._answers(deliveries)
            said = [None if answer is None else Failure(answer, error_in_words(answer)) for answer in answers]
            results.update(zip(deliveries, said, strict=True))
        except BaseException as error:  # noqa: ASYNC103 - it says that nothing is known of any of them
            if asks_to_end(error):
                raise
            return Failure(error, error_in_words(error))  # noqa: ASYNC104 - as above
        return None

    async def _answers(self, deliveries: Sequence[Delivery]) -> Sequence[Exception | None]:
        publishing: object = self.publisher.publish([delivery.message for delivery in deliveries])
        answers = await publishing if isinstance(publishing, Awaitable) else None
        if not isinstance(answers, Sequence) or len(answers) != len(deliveries) or not all(map(_is_answer, answers)):
            raise InvalidArgument("publisher", self.publisher, _EXPECTED)
        return answers


def _is_answer(given: object) -> bool:
    return given is None or isinstance(given, Exception)
