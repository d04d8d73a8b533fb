"""Processes that run several sagas at once on one file, and kill themselves with SIGKILL at a point of any of them.

Arguments: points, folder, backend, runner. So the batches that they die in hold the writes of several sagas.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from point_forks import fork_at_each
from point_runs import EXPECTED_ERRORS, MortalStorage
from point_shapes import WORLD, FailsAtTheEnd, Shape, Well
from point_world import Fuse, World

from anysaga import SQLAlchemyStorage
from anysaga.abc import Storage

CROWD: list[type[Shape]] = [Well, FailsAtTheEnd] * 4


async def main(folder: Path, point: int, runner: str) -> None:
    storage, fuse = SQLAlchemyStorage(f"{runner}:///{folder / 'sagas.db'}", lease=600), Fuse(point, real=True)
    async with anyio.create_task_group() as group:
        for number, shape in enumerate(CROWD):
            group.start_soon(run_one, folder, number, shape, storage, fuse)


async def run_one(folder: Path, number: int, shape: type[Shape], storage: Storage, fuse: Fuse) -> None:
    """Run one saga of the crowd, in a world of its own."""
    world = World(shape().definition, storage, file=folder / f"world-{number}", fuse=fuse)
    WORLD.set(world)
    try:
        await shape(storage=MortalStorage(storage, fuse)).run(shape.begin(), saga_id=f"trip-{number}")
    except EXPECTED_ERRORS:
        return
    finally:
        if world.problems:
            (folder / f"problems-{number}").write_text("\n".join(world.problems))


if __name__ == "__main__":
    points, folder, backend, runner = sys.argv[1:]
    fork_at_each(points, Path(folder), backend, main, runner)
