"""SQLAlchemyStorage on PostgreSQL and MySQL keeps the contract, by each driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from server_stores import Server, ServerStorage

from anysaga.testing import StorageConformance


class ServerConformance(StorageConformance):
    driver: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _find_server(self, server_of: Callable[[str], Server]) -> None:
        self._server = server_of(self.driver)

    def new_storage(self, directory: Path) -> ServerStorage:
        return self._server.new_storage()

    def twin(self, storage: ServerStorage) -> ServerStorage:
        return storage.server.twin()

    async def die(self, storage: ServerStorage) -> None:
        storage.server.kill(storage)


class TestPsycopgStorage(ServerConformance):
    driver = "psycopg"


class TestAsyncpgStorage(ServerConformance):
    driver = "asyncpg"


class TestPyMySQLStorage(ServerConformance):
    driver = "pymysql"
