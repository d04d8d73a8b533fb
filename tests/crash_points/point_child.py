"""Processes that each run a saga on a file, and kill themselves with SIGKILL at a point.

Arguments: points, folder, backend, shape.
"""

from __future__ import annotations

import sys
from pathlib import Path

import point_shapes
from point_forks import fork_at_each
from point_runs import EXPECTED_ERRORS, SAGA_ID, MortalStorage, OnDisk
from point_shapes import WORLD, Trip
from point_world import Fuse, World


async def main(folder: Path, point: int, name: str) -> None:
    shape = getattr(point_shapes, name)
    place = OnDisk(folder / "sagas.db")
    world = World(shape().definition, place.reader, file=folder / "world", fuse=Fuse(point, real=True))
    WORLD.set(world)
    try:
        await shape(storage=MortalStorage(place.open(), world.fuse)).run(Trip([]), saga_id=SAGA_ID)
    except EXPECTED_ERRORS:
        return
    finally:
        if world.problems:
            (folder / "problems").write_text("\n".join(world.problems))


if __name__ == "__main__":
    points, folder, backend, name = sys.argv[1:]
    fork_at_each(points, Path(folder), backend, main, name)
