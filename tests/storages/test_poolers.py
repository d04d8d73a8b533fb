"""Poolers between a store and PostgreSQL: one that shares sessions is refused, before it learns settings of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from pooler import Pooler
from server_stores import Server, place_of

from anysaga._errors import StorageRefused
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["psycopg", "asyncpg"])
def server(request: pytest.FixtureRequest, server_of: Callable[[str], Server]) -> Server:
    server = server_of(request.param)
    server.empty()
    server.create()
    return server


@contextmanager
def _pooled(server: Server, *, sessions: int) -> Iterator[sa.URL]:
    pooler = Pooler(place_of(server.engine.url), sessions=sessions)
    with pooler.listening():
        yield server.url.set(host="127.0.0.1", port=pooler.port).difference_update_query(["host"])


@pytest.mark.parametrize("sessions", [1, 3])
async def test_a_pooler_that_shares_sessions_is_refused_and_learns_no_setting(server: Server, sessions: int) -> None:
    """Whether another client is given the store's session, or the store another one."""
    with _pooled(server, sessions=sessions) as url:
        storage = SQLAlchemyStorage(url, table_prefix=server.prefix)
        with pytest.raises(StorageRefused, match="connect to the server itself, or have it pool by session"):
            await storage.open()
        await storage.aclose()
        with sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool).connect() as other:
            assert other.exec_driver_sql("SHOW enable_seqscan").scalar() == "on"


async def test_a_pooler_that_lends_whole_sessions_is_as_good_as_the_server(server: Server) -> None:
    with _pooled(server, sessions=0) as url:
        async with SQLAlchemyStorage(url, table_prefix=server.prefix) as storage:
            await storage.record(write(await created(storage), entry(2, EntryKind.DONE)))
            assert (await storage.load("saga-1")).summary.seq == 2
