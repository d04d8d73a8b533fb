"""Measuring in a process of its own: fresh memory, and an end that tidies nothing up."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Tell = Callable[[list[float]], None]
"""Report figures and end the process at once, as a kill would."""


def in_own_process(work: Callable[..., None], *arguments: Any) -> list[float]:
    """Call ``work(tell, *arguments)`` in a fresh interpreter; returns what it told. Both must be picklable.

    Raises `RuntimeError` if it ended without telling anything; its traceback is on stderr.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        figures: list[float] = ours.recv()
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed in a process of its own") from None
    finally:
        process.join()
        ours.close()
    return figures


def resident() -> float:
    """KiB of memory that this process occupies now; where the system does not say, the most it ever did."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    import resource  # noqa: PLC0415  # only Unix has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else float(peak)


def _work(connection: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    def tell(figures: list[float]) -> None:
        connection.send(figures)
        connection.close()
        os._exit(0)

    work(tell, *arguments)
