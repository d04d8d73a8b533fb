"""The time that stores go by, in one place, so that tests can turn the hands."""

from __future__ import annotations

import time
from typing import Protocol

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """A wall clock that all processes share, and a monotonic one of this process."""

    def now(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment in the past; never goes back."""
        ...


class HostClock:
    """The clocks of this machine."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        # Where there is such a clock, one that goes on while the machine sleeps: a lease does not sleep either.
        return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class ManualClock:
    """A clock that stands still until `advance` is called. For tests."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += microseconds(seconds)


def microseconds(seconds: float) -> int:
    """A span in seconds as whole microseconds."""
    return round(seconds * 1_000_000)
