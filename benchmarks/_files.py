"""Fresh SQLite files, and stores on them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from anysaga import SQLAlchemyStorage
from anysaga.abc import Storage


def numbered(folder: str) -> Iterator[Path]:
    """Paths in a folder, never the same twice."""
    return (Path(folder) / f"{number}.db" for number in count())


def threaded(file: Path) -> Storage:
    """A store on the standard library's driver, in worker threads."""
    return SQLAlchemyStorage(f"sqlite:///{file}")


def hosted(file: Path) -> Storage:
    """A store on an asynchronous driver, in the library's own loop."""
    return SQLAlchemyStorage(f"sqlite+aiosqlite:///{file}")
