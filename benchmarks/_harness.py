"""Measuring: rounds in which all subjects of a comparison take turns, so that noise hits them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import anyio
from attrs import field, frozen

from benchmarks._table import Comparison, Row

BACKENDS = ("asyncio", "trio")
TASKS = 100
"""How many sagas run at once where they do."""


@frozen
class Scale:
    """How big a run is. A quick one only shows that everything works: its figures mean nothing."""

    quick: bool = False
    rounds: int | None = None

    def of(self, full: int, quick: int) -> int:
        """The size to use."""
        return quick if self.quick else full


@frozen
class Target:
    """What a subject is to reach beside `base`: at most so many times its cost, or at least so many times its speed.

    Without a limit the ratio is shown and not judged. Beyond it lies the goal.
    """

    base: str
    is_speed: bool = field(kw_only=True)
    limit: float | None = None
    goal: float | None = None

    @classmethod
    def of_cost(cls, base: str, *, at_most: float | None = None, goal: float | None = None) -> Target:
        """A target for how many times the base's cost a subject costs."""
        return cls(base, at_most, goal, is_speed=False)

    @classmethod
    def of_speed(cls, base: str, *, at_least: float | None = None, goal: float | None = None) -> Target:
        """A target for how many times as fast as the base a subject is."""
        return cls(base, at_least, goal, is_speed=True)

    def judge(self, costs: float | None) -> Comparison:
        """Compare, given how many times the base's cost it costs; None if one of the two was not measured."""
        word = f"{'speed' if self.is_speed else 'cost'} of {self.base}"
        if costs is None:
            return Comparison(f"{word}: not measured", self._words())
        ratio = 1 / costs if self.is_speed else costs
        kept = None if self.limit is None else (ratio >= self.limit if self.is_speed else ratio <= self.limit)
        return Comparison(f"{_short(ratio)} x the {word}", self._words(), kept)

    def _words(self) -> str:
        if self.limit is None:
            return ""
        wish = "" if self.goal is None else f", goal {self.goal:g}"
        return f"{'>=' if self.is_speed else '<='} {self.limit:g}{wish}"


@frozen
class Subject:
    """One thing that is measured: `run` says what it costs, each time anew. Without `run` it is not installed."""

    name: str
    run: Callable[[], float] | None
    targets: Sequence[Target] = ()


@frozen
class Figures:
    """What the subjects of one comparison cost, by name and round."""

    costs: Mapping[str, Sequence[float]] = field(factory=dict[str, Sequence[float]])

    def cost(self, name: str) -> float | None:
        """The median over the rounds."""
        return statistics.median(self.costs[name]) if name in self.costs else None

    def times(self, name: str, base: str) -> float | None:
        """How many times the cost of `base`: the median of the ratios of each round."""
        if name not in self.costs or base not in self.costs:
            return None
        return statistics.median(
            one / other for one, other in zip(self.costs[name], self.costs[base], strict=True) if other
        )


def take_turns(subjects: Sequence[Subject], scale: Scale, rounds: int, *, warm_up: bool = True) -> Figures:
    """Run all subjects in turn: once to warm up, unless it is quick, and then for so many rounds."""
    warm_up = warm_up and not scale.quick
    present = [(subject.name, subject.run) for subject in subjects if subject.run is not None]
    costs: dict[str, list[float]] = {name: [] for name, _ in present}
    rounds = scale.rounds or scale.of(rounds, 1)
    for turn in range(rounds + warm_up):
        for name, run in present:
            gc.collect()
            cost = run()
            if turn or not warm_up:
                costs[name].append(cost)
    return Figures(costs)


def compare(
    case: str,
    subjects: Sequence[Subject],
    scale: Scale,
    *,
    rounds: int,
    show: Callable[[float], str],
    warm_up: bool = True,
) -> Iterator[Row]:
    """Measure all subjects; a row for each, as `show` writes its cost."""
    figures = take_turns(subjects, scale, rounds, warm_up=warm_up)
    for subject in subjects:
        cost = figures.cost(subject.name)
        text = "not installed" if cost is None else show(cost)
        targets = () if cost is None else subject.targets
        yield Row(
            case, subject.name, text, [target.judge(figures.times(subject.name, target.base)) for target in targets]
        )


def in_loop(backend: str, work: Callable[[], Awaitable[float]]) -> Callable[[], float]:
    """A subject that runs in a fresh event loop and says itself what it cost."""

    async def main() -> float:
        return await work()

    return lambda: anyio.run(main, backend=backend)


async def one_by_one(times: int, work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that `work` takes, awaited `times` times one after the other, divided by that."""
    began = time.perf_counter()
    for _ in range(times):
        await work()
    return (time.perf_counter() - began) / times


async def at_once(tasks: int, times: int, work: Callable[[], Awaitable[object]]) -> float:
    """The same in so many tasks that run at once, each of them `times` times; divided by all."""

    async def task() -> None:
        for _ in range(times):
            await work()

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(task)
    return (time.perf_counter() - began) / (tasks * times)


def _short(ratio: float) -> str:
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2  # noqa: PLR2004
    return f"{ratio:.{digits}f}"
