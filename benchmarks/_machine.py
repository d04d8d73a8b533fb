"""What the figures depend on: the machine, the disk, the versions, the day."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anysaga
from benchmarks._peers import DBOS, PYTHON_CQRS, versions
from benchmarks._table import duration


def description() -> str:
    """Two lines for above the table."""
    installed = versions(
        "anyio", "trio", "sqlalchemy", "aiosqlite", "orjson", PYTHON_CQRS.distribution, DBOS.distribution
    )
    software = ", ".join(f"{name} {number}" for name, number in installed.items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({_processor()}), {platform.system()}, "
        f"{file_system(Path(tempfile.gettempdir()))}, fsync of a page {duration(fsync_time())}.\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"anysaga {anysaga.__version__}, {software}."
    )


def fsync_time() -> float:
    """Seconds that the disk of the temporary folder takes to keep one page: the median of 50."""
    with TemporaryDirectory() as folder, (Path(folder) / "page").open("wb", buffering=0) as page:
        times: list[float] = []
        for _ in range(50):
            page.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(page.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def file_system(path: Path) -> str:
    """The kind of file system that a path is on, where the system says so."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "file system unknown"
    fields = [line.split() for line in mounts.read_text().splitlines()]
    holding = [(len(point), kind) for _, point, kind, *_ in fields if path.resolve().is_relative_to(point)]
    return max(holding)[1] if holding else "file system unknown"


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if names.exists():
        for line in names.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
