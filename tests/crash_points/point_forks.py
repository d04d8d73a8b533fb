"""Processes that kill themselves, each at its own point.

They are forks of one process that has imported all they need: a start takes ten times as long as a saga.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import anyio
import sqlalchemy.dialects.sqlite  # noqa: F401 - each process would import it for its store

import anysaga.storages.sql  # noqa: F401 - as above

Main = Callable[..., Awaitable[None]]
"""What a process does, given its folder, its point and further arguments."""

HERE = Path(__file__).parent


def exit_codes(script: str, points: Iterable[int], *arguments: object) -> list[int]:
    """Run a script of this folder, which calls `fork_at_each`. Gives how the process of each point ended."""
    command = [sys.executable, str(HERE / script), ",".join(map(str, points)), *map(str, arguments)]
    path = os.pathsep.join([str(HERE), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, timeout=600, check=True
    )
    return [int(code) for code in done.stdout.split()]


def fork_at_each(points: str, folder: Path, backend: str, main: Main, *arguments: str) -> None:
    """Run main for each point, in a process and a folder of its own, and print how it ended."""
    anyio.run(anyio.sleep, 0, backend=backend)  # as the imports: else each process would import its loop
    for point in points.split(","):
        process = os.fork()
        if process == 0:
            own = folder / point
            own.mkdir()
            anyio.run(partial(main, own, int(point), *arguments), backend=backend)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer
