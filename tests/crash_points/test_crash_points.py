"""A process dies before and after every write and every effect, once and twice: every saga still ends by the laws."""

from __future__ import annotations

from pathlib import Path

import pytest
from point_runs import InMemory, OnDisk, crash_problems, every_point, every_second, run_dying
from point_shapes import SHAPES, Shape, Well

pytestmark = pytest.mark.anyio
EACH = pytest.mark.parametrize("shape", SHAPES)


@EACH
async def test_without_a_crash(shape: type[Shape]) -> None:
    """The laws hold, and the saga ends as it should, when nothing goes wrong outside it."""
    outcome = await run_dying(shape, InMemory(), [])

    assert outcome.problems == []
    assert outcome.points[0] > 8


@EACH
async def test_every_pair_of_crash_points_in_memory(shape: type[Shape], anyio_backend_name: str) -> None:
    """Whichever point the first process dies at, and whichever its successor, the laws hold: each pair on a loop."""
    assert await crash_problems(shape, InMemory, every_point, every_second(anyio_backend_name)) == []


@EACH
async def test_every_crash_point_on_sqlite(shape: type[Shape], tmp_path: Path, anyio_backend_name: str) -> None:
    """The same on a file, read through another connection: every point on one of the loops."""
    files = OnDisk.files_in(tmp_path)
    assert await crash_problems(shape, files, every_second(anyio_backend_name)) == []


async def test_every_point_is_reached() -> None:
    """A saga of three steps has a point before and after each of its 4 writes and 3 effects."""
    outcome = await run_dying(Well, InMemory(), [])

    assert outcome.points == [2 * (4 + 3)]
