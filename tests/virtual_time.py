"""Time of the loop's own: a test that waits for a time limit takes no time, however slow its machine is."""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from sniffio import current_async_library


class _Time:
    """A clock that stands still until somebody, or something, lets it jump."""

    def __init__(self) -> None:
        self._now = time.monotonic()  # asyncio's own timers are set by that

    def __call__(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    """Waits for files and threads only; if there is nothing of theirs, time may jump to the next timer."""

    def __init__(self, clock: _Time, *, jumps: bool) -> None:
        super().__init__()
        self._clock = clock
        self._jumps = jumps

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if not self._jumps:
            return super().select(None)
        events = super().select(0)
        if not events:
            self._clock.jump(timeout)
        return events


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock of its own."""

    def __init__(self, *, jumps: bool) -> None:
        self.clock = _Time()
        self.time = self.clock  # type: ignore[method-assign]
        super().__init__(_Selector(self.clock, jumps=jumps))


def _both_loops(*, jumps: bool) -> pytest.MarkDecorator:
    clock = trio.testing.MockClock(autojump_threshold=0 if jumps else math.inf)
    loops = ("asyncio", {"loop_factory": partial(_Loop, jumps=jumps)}), ("trio", {"clock": clock})
    return pytest.mark.parametrize("anyio_backend", loops, ids=["asyncio", "trio"])


in_jumping_time = _both_loops(jumps=True)
"""Time jumps to the next timer whenever all tasks wait. For tests without threads: it does not wait for those."""

in_still_time = _both_loops(jumps=False)
"""Time stands still but for `jump`."""


async def jump(seconds: float) -> None:
    """Let the time of the running loop go on. From a thread: by `anyio.from_thread.run`."""
    if current_async_library() == "trio":
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)
    else:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        loop.clock.jump(seconds)
