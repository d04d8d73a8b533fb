"""The stores that come with anysaga: `MemoryStorage` for tests and demonstrations, `SQLAlchemyStorage` for work.

SQLAlchemy is imported at the first use of `SQLAlchemyStorage`, so the core does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysaga._lazy import attach
from anysaga.storages._memory import MemoryStorage as MemoryStorage

if TYPE_CHECKING:
    from anysaga.storages.sql import SQLAlchemyStorage as SQLAlchemyStorage
else:
    __getattr__, __dir__ = attach(
        __name__, {"SQLAlchemyStorage": "anysaga.storages.sql"}, needs={"SQLAlchemyStorage": "sqlalchemy"}
    )
