"""What a server can refuse: an error of ours that says what to do, or a retry; no saga's state is changed by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from attrs import define
from server_stores import Server
from sqlalchemy import event

from anysaga import Saga, SagaState, Step, recover_saga
from anysaga._errors import StorageError, StorageRefused, StorageUnavailable
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio


PASSWORD = "a-password-of-nobody"  # noqa: S105 - the test server's own


class Guest:
    """A user of the server who may connect, and for the rest what the test allows."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = f"guest_{uuid4().hex[:8]}"
        self.is_postgresql = server.url.get_backend_name() == "postgresql"
        self._quoted = self.name if self.is_postgresql else f"`{self.name}`@`%%`"
        self.url = server.url.set(username=self.name, password=PASSWORD)

    def enter(self) -> None:
        """Make the user known."""
        if self.is_postgresql:
            self._say(f"CREATE ROLE {self.name} LOGIN PASSWORD '{PASSWORD}'")
            return
        self._say(f"CREATE USER {self._quoted} IDENTIFIED BY '{PASSWORD}'")

    def leave(self) -> None:
        """Make the user unknown."""
        if self.is_postgresql:
            self._say(f"DROP OWNED BY {self.name}")
        self._say(f"DROP {'ROLE' if self.is_postgresql else 'USER'} {self._quoted}")

    def allow(self, *rights: str) -> None:
        """Grant rights on the tables that are there."""
        for table in self.server.tables.metadata.tables:
            self._say(f"GRANT {', '.join(rights)} ON {table} TO {self._quoted}")

    def forbid(self, *rights: str) -> None:
        """Take them back."""
        for table in self.server.tables.metadata.tables:
            self._say(f"REVOKE {', '.join(rights)} ON {table} FROM {self._quoted}")

    def limit(self, connections: int) -> None:
        """Let the user have so many connections; -1: as many as others."""
        if self.is_postgresql:
            self._say(f"ALTER ROLE {self.name} CONNECTION LIMIT {connections}")
        else:
            self._say(f"ALTER USER {self._quoted} WITH MAX_USER_CONNECTIONS {max(connections, 0)}")

    def set(self, setting: str) -> None:
        """Give the user's new sessions a default of their own. PostgreSQL only."""
        self._say(f"ALTER ROLE {self.name} SET {setting}")

    def _say(self, statement: str) -> None:
        with self.server.engine.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture
def guest(server: Server) -> Iterator[Guest]:
    guest = Guest(server)
    guest.enter()
    yield guest
    guest.leave()


def _store(server: Server, address: sa.URL | sa.Engine, **options: Any) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(address, table_prefix=server.prefix, **options)


def _positions(server: Server) -> list[tuple[str, int]]:
    sagas = server.tables.sagas
    with server.engine.connect() as connection:
        return [(row.state, row.seq) for row in connection.execute(sa.select(sagas).order_by(sagas.c.id))]


# Connecting


async def test_wrong_credentials_are_told_without_the_password(server: Server) -> None:
    storage = _store(server, server.url.set(username="nobody_at_all", password=PASSWORD))
    with pytest.raises(StorageRefused, match="user or password is wrong") as caught:
        await storage.open()
    assert PASSWORD not in str(caught.value)
    await storage.aclose()


async def test_a_wrong_password_is_told_where_the_server_asks_for_one(server: Server, guest: Guest) -> None:
    if guest.is_postgresql:
        pytest.skip("the tests' PostgreSQL trusts whoever comes from its own machine")
    storage = _store(server, guest.url.set(password="another"))  # noqa: S106 - wrong on purpose
    with pytest.raises(StorageRefused, match="user or password is wrong"):
        await storage.open()
    await storage.aclose()


async def test_a_database_that_is_not_there_is_told(server: Server) -> None:
    storage = _store(server, server.url.set(database="no_such_database"))
    with pytest.raises(StorageRefused, match="there is no such database: create it first"):
        await storage.open()
    await storage.aclose()


@pytest.mark.parametrize("place", [{"port": 1}, {"host": "no-such-host.invalid"}], ids=["port", "host"])
async def test_a_server_that_is_not_there_is_unavailable(server: Server, place: dict[str, Any]) -> None:
    url = server.url.difference_update_query(["host"])  # where a socket is named, it would go before the host
    storage = _store(server, url.set(**place))
    with pytest.raises(StorageUnavailable):
        await storage.open()
    await storage.aclose()


async def test_too_many_connections_are_unavailable_until_there_is_room(
    server: Server, guest: Guest, tables: None
) -> None:
    guest.allow("SELECT", "INSERT", "UPDATE", "DELETE")
    guest.limit(1)
    async with _store(server, guest.url) as storage:
        await storage.open()
        with pytest.raises(StorageUnavailable):
            await storage.load("saga-1")
        guest.limit(-1)
        await storage.record(write(await created(storage), entry(2, EntryKind.DONE)))
        assert (await storage.load("saga-1")).summary.seq == 2


# Rights


async def test_without_any_right_it_is_refused_as_such(server: Server, guest: Guest, tables: None) -> None:
    storage = _store(server, guest.url)
    with pytest.raises(StorageRefused, match=r"lacks a right|may not use that database"):
        await storage.open()
    await storage.aclose()


async def test_who_may_only_read_can_look_and_not_write(server: Server, guest: Guest, tables: None) -> None:
    guest.allow("SELECT")
    async with server.twin() as owner, _store(server, guest.url) as storage:
        await created(owner)
        assert (await storage.load("saga-1")).summary.seq == 1
        with pytest.raises(StorageRefused, match="lacks a right"):
            await created(storage, "saga-2")
        with pytest.raises(StorageRefused, match="lacks a right"):
            await storage.claim_due(["order"], 1)
    assert _positions(server) == [("RUNNING", 1)]


# Tables


async def test_missing_tables_are_told_where_they_may_not_be_created(server: Server) -> None:
    storage = SQLAlchemyStorage(server.url, table_prefix="nowhere_", create_schema=False)
    with pytest.raises(StorageRefused, match=r"no table 'nowhere_meta'.*create_schema=True"):
        await storage.open()
    await storage.aclose()
    assert not [name for name in sa.inspect(server.engine).get_table_names() if name.startswith("nowhere_")]


async def test_tables_that_go_while_in_use_are_told(server: Server) -> None:
    async with server.twin() as storage:
        claim = await created(storage)
        server.drop()
        with pytest.raises(StorageRefused, match="its tables are gone"):
            await storage.record(write(claim, entry(2, EntryKind.DONE)))
        with pytest.raises(StorageRefused, match="its tables are gone"):
            await storage.load("saga-1")


# Defaults of sessions


def _sessions(server: Server, guest: Guest, *, read_only: bool = False) -> sa.URL | sa.Engine:
    """An address whose sessions are SERIALIZABLE, or read-only, unless they say otherwise."""
    if guest.is_postgresql:
        guest.allow("SELECT", "INSERT", "UPDATE", "DELETE")
        setting = "read_only = on" if read_only else "isolation = 'serializable'"
        guest.set(f"default_transaction_{setting}")
        return guest.url
    command = "READ ONLY" if read_only else "ISOLATION LEVEL SERIALIZABLE"
    arguments = {"init_command": f"SET SESSION TRANSACTION {command}"}
    return sa.create_engine(server.url, connect_args=arguments, poolclass=sa.NullPool)


async def test_a_server_that_only_lets_itself_be_read_says_so(server: Server, guest: Guest, tables: None) -> None:
    async with server.twin() as primary, _store(server, _sessions(server, guest, read_only=True)) as replica:
        claim = await created(primary)
        assert (await replica.load("saga-1")).summary.seq == 1
        with pytest.raises(StorageRefused, match="give the address of the primary"):
            await created(replica, "saga-2")
        with pytest.raises(StorageRefused, match="give the address of the primary"):
            await replica.claim("saga-1")
        await primary.record(write(claim, entry(2, EntryKind.DONE)))
    assert _positions(server) == [("RUNNING", 2)]


async def test_a_server_that_became_a_replica_is_left_for_the_new_primary(server: Server, tables: None) -> None:
    """An address may lead to another server after a failover: a connection that may only read is not kept."""
    read_only = "SESSION CHARACTERISTICS AS" if server.url.get_backend_name() == "postgresql" else "SESSION"
    async with server.twin() as storage:
        claim = await created(storage)
        for runner in (storage._core.writer, storage._core._heart):
            assert runner is not None
            runner.run(lambda connection: connection.exec_driver_sql(f"SET {read_only} TRANSACTION READ ONLY"))
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
        assert storage._core.renew(storage._lease.owner)
        storage._core.writer.run(
            lambda connection: connection.exec_driver_sql(f"SET {read_only} TRANSACTION READ ONLY")
        )
        await created(storage, "saga-2")
    assert _positions(server) == [("RUNNING", 2), ("RUNNING", 1)]


async def test_the_default_isolation_level_of_a_session_does_not_count(
    server: Server, guest: Guest, tables: None
) -> None:
    async with _store(server, _sessions(server, guest)) as storage:
        assert _levels(server, storage) == LEVELS


LEVELS = ["READ COMMITTED", "REPEATABLE READ", "READ COMMITTED"]
"""Of what writes, of what reads, and of what keeps the lease."""


NAMES = "('tx_isolation', 'transaction_isolation')"


def _levels(server: Server, storage: SQLAlchemyStorage) -> list[str]:
    is_postgresql = server.url.get_backend_name() == "postgresql"
    query = "SHOW transaction_isolation" if is_postgresql else "SHOW VARIABLES WHERE Variable_name IN " + NAMES

    def level(connection: sa.Connection) -> str:
        return str(connection.exec_driver_sql(query).one()[-1]).upper().replace("-", " ")

    core = storage._core
    assert core._heart is not None
    return [runner.run(level) for runner in (core.writer, core.reader, core._heart)]


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ"])
async def test_the_isolation_level_of_a_given_engine_does_not_count(server: Server, tables: None, level: Any) -> None:
    engine = sa.create_engine(server.engine.url, isolation_level=level, poolclass=sa.NullPool)
    async with _store(server, engine) as storage:
        assert _levels(server, storage) == LEVELS
        await created(storage)
        with pytest.raises(ZeroDivisionError):
            storage._core.writer.run(lambda connection: _forget_all(server, connection) / 0)
    assert _positions(server) == [("RUNNING", 1)]


def _forget_all(server: Server, connection: sa.Connection) -> int:
    return connection.execute(sa.delete(server.tables.sagas)).rowcount


async def test_what_a_listener_of_a_given_engine_has_said_holds(server: Server, tables: None) -> None:
    engine = sa.create_engine(server.engine.url, poolclass=sa.NullPool)
    is_postgresql = server.url.get_backend_name() == "postgresql"
    setting, query = (
        ("SET work_mem = '8765kB'", "SHOW work_mem") if is_postgresql else ("SET @mine = '8765kB'", "SELECT @mine")
    )
    event.listen(engine, "connect", lambda driver, _: driver.cursor().execute(setting))
    async with _store(server, engine) as storage:
        await created(storage)
        assert storage._core.writer.run(lambda connection: connection.exec_driver_sql(query).scalar()) == "8765kB"


# Waiting


@pytest.mark.parametrize(("lease", "busy_timeout"), [(30, 0), (1e9, 1e9)], ids=["for no lock", "for ages"])
async def test_however_long_one_waits_for_locks_a_store_works(
    server: Server, tables: None, lease: float, busy_timeout: float
) -> None:
    async with server.twin(lease=lease, busy_timeout=busy_timeout) as storage:
        claim = await created(storage)
        await storage.release(claim)
        assert len(await storage.claim_due(["order"], 1)) == 1


# Pools


def _pool_of_one(server: Server, *, wait: float) -> sa.Engine:
    return sa.create_engine(server.engine.url, pool_size=1, max_overflow=0, pool_timeout=wait)


@define
class Order:
    charged: bool = False


class Reserve(Step[Order]):
    """First."""

    async def act(self, order: Order) -> None:
        pass

    async def compensate(self, order: Order) -> None:
        pytest.fail("an error of the store undoes nothing")


class Charge(Reserve):
    """Second. What is still to happen then happens while it acts."""

    def __init__(self, *happenings: Callable[[], object]) -> None:
        self._happenings = list(happenings)

    async def act(self, order: Order) -> None:
        while self._happenings:
            self._happenings.pop()()
        order.charged = True


async def test_a_pool_of_one_connection_is_enough(server: Server, tables: None) -> None:
    """The storage's own connections are not the pool's any more."""
    engine = _pool_of_one(server, wait=30)
    async with _store(server, engine) as storage:
        result = await Saga[Order](name="order", steps=[Reserve, Charge()], storage=storage).run(Order(), saga_id="o")
        assert result.state is SagaState.COMPLETED
        with engine.connect() as connection:
            assert connection.scalar(sa.select(1)) == 1
    engine.dispose()


async def test_an_exhausted_pool_is_unavailable_until_there_is_room(server: Server, tables: None) -> None:
    engine = _pool_of_one(server, wait=0.5)
    async with _store(server, engine) as storage:
        with engine.connect(), pytest.raises(StorageUnavailable, match="QueuePool limit"):
            await created(storage)
        await created(storage)
    assert _positions(server) == [("RUNNING", 1)]
    engine.dispose()


# Sagas


async def test_a_saga_whose_store_refuses_it_stays_where_it_was(server: Server, guest: Guest, tables: None) -> None:
    """Rights taken away in the middle: the caller gets the store's error, nothing is undone, and it goes on later."""
    guest.allow("SELECT", "INSERT", "UPDATE", "DELETE")
    async with _store(server, guest.url) as storage:
        charge = Charge(lambda: guest.forbid("UPDATE"))
        saga = Saga[Order](name="order", steps=[Reserve, charge], storage=storage)
        with pytest.raises(StorageError, match="lacks a right"):
            await saga.run(Order(), saga_id="o")
        assert _positions(server) == [("RUNNING", 3)]
        guest.allow("UPDATE")
        storage._core.lease.beat()
        result = await recover_saga(saga, "o")
        assert result.state is SagaState.COMPLETED
