"""A process dies before and after every write and every effect, once and twice: every saga still ends by the laws."""

from __future__ import annotations

from pathlib import Path

import pytest
from point_runs import InMemory, OnDisk, run_dying
from point_shapes import SHAPES, Shape, Well

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("shape", SHAPES)
async def test_without_a_crash(shape: type[Shape]) -> None:
    """The laws hold, and the saga ends as it should, when nothing goes wrong outside it."""
    outcome = await run_dying(shape, InMemory(), [])

    assert outcome.problems == []
    assert outcome.state is shape.end
    assert outcome.points[0] > 8


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_pair_of_crash_points_in_memory(shape: type[Shape]) -> None:
    """Whichever point the first process dies at, and whichever its successor, the laws hold."""
    problems: list[str] = []
    (last,) = (await run_dying(shape, InMemory(), [])).points
    for first in range(1, last + 1):
        once = await run_dying(shape, InMemory(), [first])
        problems += [f"{first}: {problem}" for problem in once.problems]
        for second in range(1, once.points[1] + 1):
            twice = await run_dying(shape, InMemory(), [first, second])
            problems += [f"{first}, {second}: {problem}" for problem in twice.problems]

    assert problems == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_crash_point_on_sqlite(shape: type[Shape], tmp_path: Path) -> None:
    """The same on a file, read through another connection."""
    problems: list[str] = []
    (last,) = (await run_dying(shape, InMemory(), [])).points
    for first in range(1, last + 1):
        outcome = await run_dying(shape, OnDisk(tmp_path / f"{first}.db"), [first])
        problems += [f"{first}: {problem}" for problem in outcome.problems]

    assert problems == []


async def test_every_point_is_reached() -> None:
    """A saga of three steps has a point before and after each of its 4 writes and 3 effects."""
    outcome = await run_dying(Well, InMemory(), [])

    assert outcome.points == [2 * (4 + 3)]
