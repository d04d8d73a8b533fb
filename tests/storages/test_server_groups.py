"""Group commit on servers: one saga's conflict or bad row fails that saga alone. The laws are those of SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from server_stores import Server
from test_group_commit import (
    commits,
    test_a_bad_row_fails_its_saga_alone,
    test_a_conflict_fails_its_saga_alone,
    test_an_id_that_is_taken_is_taken_in_a_batch_too,
    test_an_unknown_saga_fails_alone,
    test_releases_and_ends_go_with_the_rest,
    test_sagas_at_once_share_a_commit,
    test_the_same_write_again_is_a_success,
)

from anysaga.storages import SQLAlchemyStorage

__all__ = [
    "commits",
    "test_a_bad_row_fails_its_saga_alone",
    "test_a_conflict_fails_its_saga_alone",
    "test_an_id_that_is_taken_is_taken_in_a_batch_too",
    "test_an_unknown_saga_fails_alone",
    "test_releases_and_ends_go_with_the_rest",
    "test_sagas_at_once_share_a_commit",
    "test_the_same_write_again_is_a_success",
]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """One loop is enough: both are tried on SQLite, and batches are written by a thread."""
    return str(request.param)


@pytest.fixture
async def storage(server: Server) -> AsyncIterator[SQLAlchemyStorage]:
    async with server.new_storage() as storage:
        await storage.find()
        storage._lease.stop()  # its commits would be counted, too
        yield storage
