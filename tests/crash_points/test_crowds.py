"""Group commit and the hosted runner: what a process had acknowledged, or shared a batch with others, when it died."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
from point_cancels import cancel_problems
from point_crowd import CROWD
from point_forks import exit_codes
from point_runs import OnDisk, crash_problems, every_second
from point_shapes import WORLD, FailsAtTheEnd, HasAPivot, Well
from point_world import World

from anysaga import SagaNotFound, SagaState, SQLAlchemyStorage, recover_saga

pytestmark = pytest.mark.anyio
RUNNERS = ["sqlite", "sqlite+aiosqlite"]


class Hosted(OnDisk):
    """The same file, through aiosqlite in the library's own thread."""

    def open(self) -> SQLAlchemyStorage:
        return SQLAlchemyStorage(f"sqlite+aiosqlite:///{self._file}", durability="normal", lease=600)


@pytest.mark.parametrize("shape", [Well, FailsAtTheEnd, HasAPivot])
async def test_every_crash_point_through_the_hosted_runner(
    shape: type[Well], tmp_path: Path, anyio_backend_name: str
) -> None:
    """Every point on one of the loops."""
    files = Hosted.files_in(tmp_path)
    assert await crash_problems(shape, files, every_second(anyio_backend_name)) == []


async def test_cancelled_at_every_point_through_the_hosted_runner(tmp_path: Path) -> None:
    """I7."""
    assert await cancel_problems(FailsAtTheEnd, Hosted.files_in(tmp_path), at_least=7) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_crowd_that_is_killed_with_its_batches(runner: str, tmp_path: Path, anyio_backend_name: str) -> None:
    """Eight sagas write at once; a batch is durable as a whole or not at all, and each saga ends by the laws."""
    points = range(5 if anyio_backend_name == "asyncio" else 14, 90, 18)
    codes = exit_codes("point_crowd.py", points, tmp_path, anyio_backend_name, runner)
    problems = [problem for n in points for problem in await recovered(tmp_path / f"{n}")]

    assert codes == [-signal.SIGKILL] * len(points)
    assert problems == []


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
