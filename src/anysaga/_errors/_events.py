"""What goes wrong with events."""

from __future__ import annotations

from attrs import define

from ._root import AnysagaError


class NoCurrentMessage(AnysagaError, LookupError):
    """`current_message()` was called where no event is handled."""

    def __str__(self) -> str:
        return "current_message() works only inside the handler of an event"


@define(slots=False, eq=False, repr=False)
class EventRefused(AnysagaError, RuntimeError):
    """`current_step().record()` was called where an event cannot be kept."""

    step: str
    reason: str

    def __str__(self) -> str:
        return f"an event of step {self.step!r} was refused: {self.reason}"


@define(slots=False, eq=False, repr=False)
class PublishFailed(AnysagaError):
    """A broker did not confirm a message. `message_id` is empty where it is about a whole batch.

    It may have arrived all the same. The broker's or client's own error, if there is one, is the `__cause__`.
    """

    broker: str
    message_id: str
    reason: str

    def __str__(self) -> str:
        what = f"message {self.message_id!r}" if self.message_id else "any message"
        return f"{self.broker} did not confirm {what}: {self.reason}. Publish it again, with the same id"
