"""Fallbacks and Parallels: a process dies, or its caller is cancelled, at every point, and the laws hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from point_cancels import cancel_problems
from point_runs import InMemory, OnDisk, crash_problems, every_point, every_second, shared
from point_trees import TREES, FallbackInParallelBack, ParallelInFallbackWell, Tree

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("shape", TREES)
async def test_without_a_crash(shape: type[Tree]) -> None:
    assert await crash_problems(shape, InMemory) == []


@pytest.mark.parametrize("shape", TREES)
async def test_every_crash_point_in_memory(shape: type[Tree], anyio_backend_name: str) -> None:
    """Once at every point; and once more at every fifth point of those who take over, each on one of the loops."""

    def every_fifth(points: int, deaths: Sequence[int]) -> range:
        return range(1 + deaths[0] % 5, points + 1, 5)

    assert await crash_problems(shape, InMemory, every_point, shared(every_fifth, anyio_backend_name)) == []


@pytest.mark.parametrize("shape", [ParallelInFallbackWell, FallbackInParallelBack])
async def test_every_crash_point_on_sqlite(shape: type[Tree], tmp_path: Path, anyio_backend_name: str) -> None:
    """Every point on one of the loops."""
    files = OnDisk.files_in(tmp_path)
    assert await crash_problems(shape, files, every_second(anyio_backend_name)) == []


@pytest.mark.parametrize("shape", TREES)
async def test_cancelled_at_every_point_in_memory(shape: type[Tree]) -> None:
    """I7."""
    assert await cancel_problems(shape, InMemory) == []
