"""Runs the cases whose names contain a given word, or all of them: ``python -m benchmarks [sqlite]``."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._cases import CASES
from benchmarks._harness import duration, print_table


def main(words: list[str]) -> int:
    """Returns 1 if a limit is missed."""
    chosen = [case for case in CASES if not words or any(word in case.__name__ for word in words)]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, fsync {duration(fsync_time())}\n")
    return 0 if print_table(row for case in chosen for row in case()) else 1


def fsync_time() -> float:
    """Seconds that the disk of the temporary folder takes to keep one page."""
    with TemporaryDirectory() as folder, (Path(folder) / "page").open("wb", buffering=0) as page:
        times = []
        for _ in range(50):
            page.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(page.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
