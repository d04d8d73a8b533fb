"""Measuring: medians over rounds, in which all subjects of a comparison take turns, so that noise hits them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
from attrs import frozen

BACKENDS = ("asyncio", "trio")
MANY = 1000


@frozen
class Row:
    """One line of the table: what `cost` is the cost of (`per`), and `ratio`, which is to be at most `most`."""

    case: str
    subject: str
    cost: float
    per: str
    ratio: float | None = None
    over: str = ""
    most: float | None = None

    @property
    def is_missed(self) -> bool:
        """Whether the ratio is above its limit."""
        return self.ratio is not None and self.most is not None and self.ratio > self.most


def medians(subjects: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Call all subjects in turn, once to warm up and then `rounds` times; returns the figures of each, by round."""
    for subject in subjects:
        subject()
    figures: list[list[float]] = [[] for _ in subjects]
    for _ in range(rounds):
        for subject, own in zip(subjects, figures, strict=True):
            gc.collect()
            own.append(subject())
    return figures


def ratio(figures: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(one / other for one, other in zip(figures, base, strict=True))


def in_loop(backend: str, work: Callable[[], Awaitable[float]]) -> Callable[[], float]:
    """A subject that runs in a fresh event loop and says itself how long it took."""

    async def main() -> float:
        return await work()

    return lambda: anyio.run(main, backend=backend)


async def each(times: int, work: Callable[[int], Awaitable[object]]) -> float:
    """Seconds that `work` takes, called `times` times one after the other, divided by that."""
    began = time.perf_counter()
    for number in range(times):
        await work(number)
    return (time.perf_counter() - began) / times


def print_table(rows: Iterable[Row]) -> bool:
    """Print rows as a Markdown table. Returns whether all limits are kept."""
    kept = True
    print("| case | subject | cost | ratio | limit |\n|---|---|--:|---|---|")
    for row in rows:
        kept = kept and not row.is_missed
        times = "" if row.ratio is None else f"{row.ratio:.2f} x {row.over}"
        limit = "" if row.most is None else f"{row.most:g}{' MISSED' if row.is_missed else ''}"
        print(f"| {row.case} | {row.subject} | {duration(row.cost)} a {row.per} | {times} | {limit} |", flush=True)
    return kept


def duration(seconds: float) -> str:
    """A time with a unit that suits it."""
    microseconds = round(seconds * 1_000_000)
    return f"{microseconds} µs" if microseconds < MANY else f"{seconds * 1000:.2f} ms"
