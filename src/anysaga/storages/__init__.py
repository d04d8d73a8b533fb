"""The stores that come with anysaga: `MemoryStorage` for tests and demonstrations, `SQLAlchemyStorage` for work.

SQLAlchemy is imported at the first use of `SQLAlchemyStorage`, so the core does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysaga._errors import MissingDriver
from anysaga.storages._memory import MemoryStorage

if TYPE_CHECKING:
    from anysaga.storages.sql import SQLAlchemyStorage

__all__ = ["MemoryStorage", "SQLAlchemyStorage"]


def __getattr__(name: str) -> object:
    if name != "SQLAlchemyStorage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from anysaga.storages.sql import SQLAlchemyStorage  # noqa: PLC0415 - only who uses it needs SQLAlchemy
    except ModuleNotFoundError as error:
        if error.name != "sqlalchemy":
            raise
        raise MissingDriver(name, "sqlalchemy", "sql") from error
    return SQLAlchemyStorage
