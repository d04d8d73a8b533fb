"""SQLAlchemyStorage on PostgreSQL and MySQL keeps the contract, by each driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from server_stores import Server, ServerStorage, servers

from anysaga.testing import StorageConformance


@pytest.fixture(scope="module")
def server_of(require_service: Callable[[str], str]) -> Iterator[Callable[[str], Server]]:
    made: dict[str, Server] = {}
    find = servers(require_service, "contract")

    def server_of(driver: str) -> Server:
        made[driver] = find(driver)
        return made[driver]

    yield server_of
    for server in made.values():
        server.drop()


class ServerConformance(StorageConformance):
    driver: ClassVar[str]

    @pytest.fixture(autouse=True)
    def server(self, server_of: Callable[[str], Server]) -> None:
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
