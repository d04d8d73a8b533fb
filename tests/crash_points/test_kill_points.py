"""Real processes are killed with SIGKILL at every point, and their sagas recovered here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from point_runs import InMemory, OnDisk, check_end, run_dying
from point_shapes import WORLD, FailsAtTheEnd, HasAPivot, Shape, Well

from anysaga import recover

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parent


def run_child(shape: type[Shape], folder: Path, point: int, backend: str) -> int:
    """Run a saga in a process that kills itself at a point. Returns its exit code."""
    folder.mkdir()
    command = [sys.executable, str(HERE / "point_child.py"), shape.__name__, str(folder), str(point), backend]
    path = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False).returncode  # noqa: S603


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("shape", [Well, FailsAtTheEnd, HasAPivot])
async def test_kill_nine_at_every_point(shape: type[Shape], tmp_path: Path, anyio_backend_name: str) -> None:
    """What was acknowledged is there after SIGKILL, and another process finishes the saga by the laws."""
    (last,) = (await run_dying(shape, InMemory(), [])).points
    points = range(1 if anyio_backend_name == "asyncio" else 2, last + 1, 2)
    with ThreadPoolExecutor(2) as pool:
        children = [pool.submit(run_child, shape, tmp_path / f"{n}", n, anyio_backend_name) for n in points]
    codes = {child.result() for child in children}
    problems = [problem for n in points for problem in await recover_here(shape, tmp_path / f"{n}")]

    assert codes == {-signal.SIGKILL}
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
        await check_end(shape, place, world, undisturbed=False)
    return [f"{folder.name}: {problem}" for problem in world.problems]
