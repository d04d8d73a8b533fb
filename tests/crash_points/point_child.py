"""A process that runs a saga on a file, and kills itself with SIGKILL at a point. Arguments: shape, folder, point."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import point_shapes
from point_runs import EXPECTED_ERRORS, SAGA_ID, MortalStorage, OnDisk
from point_shapes import WORLD, Trip
from point_world import Fuse, World


async def main(name: str, folder: Path, point: int) -> None:
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
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), backend=sys.argv[4])
