"""Real processes are killed with SIGKILL at every point, and their sagas recovered here."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from point_forks import exit_codes
from point_runs import InMemory, OnDisk, check_end, every_second, run_dying
from point_shapes import WORLD, FailsAtTheEnd, HasAPivot, Shape, Well

from anysaga import recover

pytestmark = pytest.mark.anyio


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("shape", [Well, FailsAtTheEnd, HasAPivot])
async def test_kill_nine_at_every_point(shape: type[Shape], tmp_path: Path, anyio_backend_name: str) -> None:
    """What was acknowledged is there after SIGKILL, and another process finishes the saga by the laws."""
    (last,) = (await run_dying(shape, InMemory(), [])).points
    points = every_second(anyio_backend_name)(last, [])
    codes = exit_codes("point_child.py", points, tmp_path, anyio_backend_name, shape.__name__)
    problems = [problem for n in points for problem in await recover_here(shape, tmp_path / f"{n}")]

    assert codes == [-signal.SIGKILL] * len(points)
    assert problems == []


async def recover_here(shape: type[Shape], folder: Path) -> list[str]:
    """Take over what a killed process left, finish it, and check the world that it left in a file."""
    place = OnDisk(folder / "sagas.db")
    place.bury()
    world = shape.world(shape().definition, place.reader, file=folder / "world")
    world.remember()
    WORLD.set(world)
    async with place.open() as storage:
        await recover([shape], storage=storage)
        await check_end(shape, place, world)
    return [f"{folder.name}: {problem}" for problem in world.problems]
