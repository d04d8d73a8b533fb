"""SQLAlchemyStorage on SQLite keeps the contract, by the driver that blocks and by the one for asyncio."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from anysaga.storages import SQLAlchemyStorage
from anysaga.testing import StorageConformance


class SQLiteStorage(SQLAlchemyStorage):
    """Remembers its file, for twins and for the test to look into."""

    def __init__(self, path: Path, kind: str = "sqlite") -> None:
        self.path = path
        self.kind = kind
        self.label = uuid4().hex
        super().__init__(f"{kind}:///{path}", label=self.label)


class TestSQLiteStorage(StorageConformance):
    def new_storage(self, directory: Path) -> SQLiteStorage:
        return SQLiteStorage(directory / "sagas.db")

    def twin(self, storage: SQLiteStorage) -> SQLiteStorage:
        return SQLiteStorage(storage.path, storage.kind)

    async def die(self, storage: SQLiteStorage) -> None:
        with closing(sqlite3.connect(storage.path)) as connection, connection:
            connection.execute("UPDATE anysaga_owners SET dead = 1 WHERE label = ?", [storage.label])


class TestAiosqliteStorage(TestSQLiteStorage):
    def new_storage(self, directory: Path) -> SQLiteStorage:
        return SQLiteStorage(directory / "sagas.db", "sqlite+aiosqlite")
