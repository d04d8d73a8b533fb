"""Servers for the tests of storages: tables for each module and driver, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from server_stores import DRIVERS, Server, servers


@pytest.fixture(scope="module")
def server_of(
    require_service: Callable[[str], str], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Server]]:
    """Give a function from a driver's name to its server, with tables of this module's own."""
    made: dict[str, Server] = {}
    find = servers(require_service, request.module.__name__.removeprefix("test_"))

    def server_of(driver: str) -> Server:
        made[driver] = find(driver)
        return made[driver]

    yield server_of
    for server in made.values():
        server.drop()


@pytest.fixture(params=DRIVERS)
def server(request: pytest.FixtureRequest, server_of: Callable[[str], Server]) -> Server:
    """Give the server of each driver, with no sagas in its tables."""
    server = server_of(request.param)
    server.empty()
    return server


@pytest.fixture
def tables(server: Server) -> None:
    """See to it that the tables are there."""
    server.create()
