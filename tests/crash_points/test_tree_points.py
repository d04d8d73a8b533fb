"""Fallbacks and Parallels: a process dies, or its caller is cancelled, at every point, and the laws hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from point_runs import InMemory, OnDisk, run_dying
from point_trees import TREES, FallbackInParallelBack, ParallelInFallbackWell, Tree
from test_cancellation_points import cancel_at

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("shape", TREES)
async def test_without_a_crash(shape: type[Tree]) -> None:
    outcome = await run_dying(shape, InMemory(), [])

    assert outcome.problems == []
    assert outcome.state is shape.end


@pytest.mark.parametrize("shape", TREES)
async def test_every_crash_point_in_memory(shape: type[Tree]) -> None:
    """Once at every point; and once more at every third point of those who take over."""
    problems: list[str] = []
    (last,) = (await run_dying(shape, InMemory(), [])).points
    for first in range(1, last + 1):
        once = await run_dying(shape, InMemory(), [first])
        problems += [f"{first}: {problem}" for problem in once.problems]
        if once.state not in (shape.end, None):
            problems.append(f"{first}: a single crash made it end {once.state}")
        for second in range(1 + first % 3, once.points[1] + 1, 3):
            twice = await run_dying(shape, InMemory(), [first, second])
            problems += [f"{first}, {second}: {problem}" for problem in twice.problems]

    assert problems == []


@pytest.mark.parametrize("shape", [ParallelInFallbackWell, FallbackInParallelBack])
async def test_every_crash_point_on_sqlite(shape: type[Tree], tmp_path: Path) -> None:
    problems: list[str] = []
    (last,) = (await run_dying(shape, InMemory(), [])).points
    for first in range(1, last + 1):
        outcome = await run_dying(shape, OnDisk(tmp_path / f"{first}.db"), [first])
        problems += [f"{first}: {problem}" for problem in outcome.problems]

    assert problems == []


@pytest.mark.parametrize("shape", TREES)
async def test_cancelled_at_every_point_in_memory(shape: type[Tree]) -> None:
    """I7."""
    problems: list[str] = []
    point, reached = 1, True
    while reached:
        broken, reached = await cancel_at(shape, InMemory(), point)
        problems += broken
        point += 1

    assert problems == []
    assert point > 3
