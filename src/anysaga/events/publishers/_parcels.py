"""Messages made ready to be sent: what can be wrong with a message is found before a broker is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from anysaga._arguments import is_number
from anysaga._errors import InvalidArgument, PublishFailed
from anysaga._records import frozen
from anysaga.abc import Message

Address: TypeAlias = str | Callable[[Message], str]
"""Where messages go: one name for all, or a function that says it for each."""

Answers: TypeAlias = list[Exception | None]
"""Why each message was not confirmed, or None; what a `Publisher` returns."""

Said: TypeAlias = dict[int, Exception | None]
"""The same by the places of the messages in their batch, as far as it is known."""


@frozen
class Parcel:
    """A message, the envelope it travels in, and where to; `index` is its place in the batch."""

    index: int
    message: Message
    address: str
    body: bytes


def packed(messages: Sequence[Message], address: Address, broker: str) -> tuple[list[Parcel], Answers]:
    """Make parcels of a batch, and the list for its answers. What cannot be packed has its answer already."""
    parcels: list[Parcel] = []
    answers: Answers = [None] * len(messages)
    for index, message in enumerate(messages):
        try:
            to = address(message) if callable(address) else address
            parcels.append(Parcel(index, message, to, message.to_json()))
        except Exception as error:  # noqa: BLE001 - a function of the user's, and it concerns this message alone
            answers[index] = failure(broker, message, error)
    return parcels, answers


def failure(broker: str, message: Message | None, error: Exception) -> PublishFailed:
    """Say that a message, or (None) a whole batch, was not confirmed because of an error of somebody else's."""
    if isinstance(error, PublishFailed):
        return error
    return caused(PublishFailed(broker, message.id if message else "", reason(error)), error)


def caused(failed: PublishFailed, cause: Exception | None) -> PublishFailed:
    """An error that is handed on instead of being raised, with its cause."""
    failed.__cause__ = cause
    return failed


def reason(error: BaseException) -> str:
    """What an error says, if it says anything, and what it is called."""
    said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def checked_seconds(timeout: float) -> float:
    """A time limit, refused if nothing could be done within it."""
    if not is_number(timeout) or not 0 < timeout < math.inf:
        raise InvalidArgument("timeout", timeout, "give a finite number of seconds, more than 0")
    return timeout


def no_answer(seconds: float) -> str:
    """The reason where nobody answered."""
    return f"no answer within {seconds:g} seconds"
