"""Group commit and the hosted runner: what a process had acknowledged, or shared a batch with others, when it died."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from point_crowd import CROWD
from point_runs import InMemory, OnDisk, run_dying
from point_shapes import WORLD, FailsAtTheEnd, HasAPivot, Well
from point_world import World
from test_cancellation_points import cancel_at

from anysaga import SagaNotFound, SagaState, SQLAlchemyStorage, recover_saga

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parent
RUNNERS = ["sqlite", "sqlite+aiosqlite"]


class Hosted(OnDisk):
    """The same file, through aiosqlite in the library's own thread."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)

    def open(self) -> SQLAlchemyStorage:
        return SQLAlchemyStorage(f"sqlite+aiosqlite:///{self._file}", durability="normal", lease=600)


@pytest.mark.parametrize("shape", [Well, FailsAtTheEnd, HasAPivot])
async def test_every_crash_point_through_the_hosted_runner(shape: type[Well], tmp_path: Path) -> None:
    problems: list[str] = []
    (last,) = (await run_dying(shape, InMemory(), [])).points
    for first in range(1, last + 1):
        outcome = await run_dying(shape, Hosted(tmp_path / f"{first}.db"), [first])
        problems += [f"{first}: {problem}" for problem in outcome.problems]

    assert problems == []


async def test_cancelled_at_every_point_through_the_hosted_runner(tmp_path: Path) -> None:
    """I7."""
    problems: list[str] = []
    point, reached = 1, True
    while reached:
        broken, reached = await cancel_at(FailsAtTheEnd, Hosted(tmp_path / f"{point}.db"), point)
        problems += broken
        point += 1

    assert problems == []
    assert point > 8


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_crowd_that_is_killed_with_its_batches(runner: str, tmp_path: Path, anyio_backend_name: str) -> None:
    """Eight sagas write at once; a batch is durable as a whole or not at all, and each saga ends by the laws."""
    points = range(5, 90, 9)
    with ThreadPoolExecutor(2) as pool:
        children = [pool.submit(run_child, tmp_path / f"{n}", runner, n, anyio_backend_name) for n in points]
    codes = {child.result() for child in children}
    problems = [problem for n in points for problem in await recovered(tmp_path / f"{n}")]

    assert codes == {-signal.SIGKILL}
    assert problems == []


def run_child(folder: Path, runner: str, point: int, backend: str) -> int:
    """Run a crowd that kills itself. Returns its exit code."""
    folder.mkdir()
    address = f"{runner}:///{folder / 'sagas.db'}"
    command = [sys.executable, str(HERE / "point_crowd.py"), str(folder), address, str(point), backend]
    path = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False).returncode  # noqa: S603


async def recovered(folder: Path) -> list[str]:
    """Recover a crowd, each saga in its own world. Returns the broken laws."""
    OnDisk(folder / "sagas.db").bury()
    problems = [found for number in range(len(CROWD)) for found in left_by_child(folder / f"problems-{number}")]
    async with SQLAlchemyStorage(folder / "sagas.db") as storage:
        for number, shape in enumerate(CROWD):
            world = World(shape().definition, storage, file=folder / f"world-{number}")
            world.remember()
            WORLD.set(world)
            with contextlib.suppress(SagaNotFound):
                await recover_saga(shape, f"trip-{number}", storage=storage)
                record = await storage.load(f"trip-{number}")
                world.check_end(record, {SagaState.COMPLETED, SagaState.COMPENSATED})
            problems += [f"{folder.name}, {number}: {problem}" for problem in world.problems]
    return problems


def left_by_child(file: Path) -> list[str]:
    """What a child has found to be broken, before it died."""
    return [file.read_text()] if file.exists() else []
