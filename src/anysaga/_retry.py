"""How often, and after which waits, something is tried again: a pure value.

Ground floor: imports nothing of ours but what is there.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import field, frozen

from anysaga._errors import InvalidArgument
from anysaga._limits import MAX_SECONDS
from anysaga._signatures import is_plain

MAX_BACKOFF = 30.0
"""Seconds between two looks, at most, while the store does not answer."""

_MOST_DOUBLINGS = 60  # a longer outage must not grow into a number that no float can hold


@frozen
class Retry:
    """Try again after a failure: at most `attempts` times in all, with growing waits.

    The wait before attempt ``n + 1`` is ``delay * backoff ** (n - 1)`` seconds, at most `max_delay`, plus a random
    share of it up to `jitter` (0.1 is 10 %). `on` names the errors that are worth another attempt: a type, a tuple
    of types, or a function of the error; everything by default. Waits are stored, so a crash in a wait loses nothing.

    Raises `InvalidArgument` for values that cannot work.

        retry = Retry(attempts=5, delay=0.5, on=ConnectionError)
    """

    attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.0
    on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] = field(
        default=Exception
    )

    def __attrs_post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidArgument("attempts", self.attempts, "give a whole number of attempts, 1 or more")
        for name, least in (("delay", 0.0), ("backoff", 1.0), ("max_delay", 0.0), ("jitter", 0.0)):
            value: float = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= MAX_SECONDS:
                raise InvalidArgument(name, value, f"give a finite number of {least:g} or more, up to {MAX_SECONDS:g}")
        if not _is_matcher(self.on):
            raise InvalidArgument("on", self.on, "give an exception type, a tuple of them, or a function of the error")

    def matches(self, error: BaseException) -> bool:
        """Whether this error is worth another attempt."""
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        return bool(self.on(error))

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        try:
            wait = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        except OverflowError:
            wait = self.max_delay if self.delay else 0.0
        wait *= 1 + random.uniform(0, self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(wait, MAX_SECONDS)


def backed_off(poll: float, failures: int) -> float:
    """Seconds until the next look at a store that failed so many times in a row: `poll`, doubled with each of them."""
    return min(poll * 2.0 ** min(failures, _MOST_DOUBLINGS), max(poll, MAX_BACKOFF))


def _is_matcher(on: object) -> bool:
    if isinstance(on, tuple):
        return bool(on) and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in on)
    if isinstance(on, type):
        return issubclass(on, BaseException)
    return is_plain(on)
