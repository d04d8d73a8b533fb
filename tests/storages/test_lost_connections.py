"""Connections that break, or fall silent: the store comes back in time, and nothing is lost or done twice."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from attrs import define
from server_stores import Server, place_of
from tcp_proxy import TcpProxy

from anysaga import Saga, SagaState, Step, recover_saga
from anysaga._errors import StorageUnavailable
from anysaga._records import EntryKind, Write
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._runner import Runner
from anysaga.storages.sql._server import driver_of
from anysaga.testing._storage._harness import created, entry, freed, write

pytestmark = pytest.mark.anyio

COMMIT = re.compile(rb"COMMIT(?!TED)")
STATEMENT = re.compile(rb'entries":')
"""The values of a statement that is a transaction of its own."""

LEASE = 3.0
"""Seconds: the lease of a store whose limits are waited for."""

hasty = pytest.mark.parametrize("storage", [LEASE], indirect=True, ids=["hasty"])
"""The others have so long a lease that a busy machine does not itself look like a client that hangs."""

BOUND = 15.0
"""Seconds after which a store that hears nothing must have come back, however slow the machine is.

Twice the limit of a transaction, and once that of connecting, which a store with this lease has, are five.
"""


@pytest.fixture
def proxy(server: Server) -> Iterator[TcpProxy]:
    with TcpProxy(place_of(server.engine.url)) as proxy:
        yield proxy


@pytest.fixture
async def storage(
    server: Server, tables: None, proxy: TcpProxy, request: pytest.FixtureRequest
) -> AsyncIterator[SQLAlchemyStorage]:
    storage = _store(server, proxy, lease=getattr(request, "param", 60.0))
    await _open(storage)
    async with storage:
        storage._lease.stop()
        yield storage
        proxy.come_back()


async def _open(storage: SQLAlchemyStorage) -> None:
    """Open a store; again where a busy machine takes longer than its limits, which are short here."""
    with anyio.fail_after(60):
        while True:
            with suppress(StorageUnavailable):
                return await storage.open()


def _store(server: Server, proxy: TcpProxy, *, lease: float = LEASE) -> SQLAlchemyStorage:
    url = server.url.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])
    return SQLAlchemyStorage(url, table_prefix=server.prefix, lease=lease)


def _cool(storage: SQLAlchemyStorage) -> None:
    """Have the next batch in a transaction, as after a while: else it may be one statement."""
    storage._core.writer._good_at = -math.inf


def _runners(storage: SQLAlchemyStorage) -> list[Runner]:
    return storage._core._runners


def _own_number(server: Server, connection: sa.Connection) -> int:
    name = "pg_backend_pid()" if server.url.get_backend_name() == "postgresql" else "CONNECTION_ID()"
    return int(connection.exec_driver_sql(f"SELECT {name}").scalar_one())


def _kill(server: Server, number: int) -> None:
    statement = "SELECT pg_terminate_backend(%d)" if server.url.get_backend_name() == "postgresql" else "KILL %d"
    with server.engine.connect() as connection:
        connection.exec_driver_sql(statement % number)


def _stored(server: Server) -> list[tuple[str, int, int]]:
    """The states of all sagas, their seqs, and how many entries they have."""
    sagas, entries = server.tables.sagas, server.tables.entries
    count = sa.select(sa.func.count()).where(entries.c.saga_id == sagas.c.id).scalar_subquery()
    with server.engine.connect() as connection:
        rows = connection.execute(sa.select(sagas.c.state, sagas.c.seq, count).order_by(sagas.c.id))
        return [(state, seq, number) for state, seq, number in rows]


# Connections that the server kills


async def test_connections_killed_while_idle_are_replaced_unseen(server: Server, storage: SQLAlchemyStorage) -> None:
    claim = await created(storage)
    for runner in _runners(storage):
        _kill(server, runner.run(partial(_own_number, server)))
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert (await storage.load("saga-1")).summary.seq == 2
    assert storage._core.renew(storage._lease.owner)


@pytest.mark.parametrize("said", [rb"ISOLATION LEVEL", rb"lock_(wait_)?timeout"])
async def test_a_connection_that_breaks_while_it_is_set_up_is_told_and_logs_nothing(
    server: Server, tables: None, proxy: TcpProxy, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    storage = _store(server, proxy)
    proxy.cut_at(re.compile(said))
    with pytest.raises(StorageUnavailable):
        await storage.open()
    assert caplog.messages == []
    await _open(storage)
    await storage.aclose()


async def test_a_connection_killed_in_the_middle_of_a_transaction_begins_it_anew(
    server: Server, storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [await created(storage, f"saga-{number}") for number in range(2)]
    record_hopefully = storage._core.operations.release
    killed: list[int] = []

    def kill_once(connection: sa.Connection, *arguments: Any) -> None:
        if not killed:
            killed.append(_own_number(server, connection))
            _kill(server, killed[0])
        record_hopefully(connection, *arguments)
        _own_number(server, connection)

    _cool(storage)
    monkeypatch.setattr(storage._core.operations, "release", kill_once)  # what comes last in each batch
    await storage.record(write(claims[0], entry(2, EntryKind.DONE)))
    assert killed
    assert _stored(server) == [("RUNNING", 2, 2), ("RUNNING", 1, 1)]


# Commits of which nobody hears


async def test_a_commit_that_did_not_arrive_changes_nothing_and_is_sent_again(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    claim = await created(storage)
    done = write(claim, entry(2, EntryKind.DONE))
    proxy.cut_at(COMMIT)
    _cool(storage)
    with pytest.raises(StorageUnavailable):
        await storage.record(done)
    assert _stored(server) == [("RUNNING", 1, 1)]
    await storage.record(done)
    assert _stored(server) == [("RUNNING", 2, 2)]


async def test_a_commit_whose_answer_was_lost_is_known_when_it_is_sent_again(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    claim = await created(storage)
    done = write(claim, entry(2, EntryKind.DONE))
    proxy.lose_answer_to(COMMIT)
    _cool(storage)
    with pytest.raises(StorageUnavailable):
        await storage.record(done)
    assert _stored(server) == [("RUNNING", 2, 2)]
    await storage.record(done)
    assert _stored(server) == [("RUNNING", 2, 2)]


@pytest.mark.parametrize("harm", [TcpProxy.cut_at, TcpProxy.lose_answer_to], ids=["not-arrived", "answer-lost"])
async def test_a_saga_that_was_created_unheard_is_free_for_others(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy, harm: Callable[[TcpProxy, re.Pattern[bytes]], None]
) -> None:
    await created(storage, "saga-0")  # with it the lease is renewed, which takes a commit of its own
    harm(proxy, COMMIT)
    _cool(storage)
    with pytest.raises(StorageUnavailable):
        await created(storage)
    storage._lease.beat()
    async with server.twin() as other:
        there = harm is TcpProxy.lose_answer_to
        assert len(await other.claim_due(["order"], 10)) == there
        if not there:
            await created(other)


async def test_a_saga_that_is_created_unheard_and_late_is_free_for_others(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    """What was sent may be on its way for longer than anybody listens, and is not there when it is looked for."""
    await created(storage, "saga-0")
    proxy.cut_at(COMMIT)
    _cool(storage)
    with pytest.raises(StorageUnavailable):
        await created(storage)
    storage._lease.beat()
    sagas = server.tables.sagas
    late = sa.select(sa.literal("saga-1"), *(column for column in sagas.c if column.name != "id"))
    with server.engine.begin() as connection:
        connection.execute(sa.insert(sagas).from_select(sagas.c.keys(), late))
    storage._lease.beat()
    async with server.twin() as other:
        assert (await other.claim("saga-1")).fence == 2


async def test_a_claim_that_was_committed_unheard_is_given_back(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    await freed(storage, "saga-1")
    proxy.lose_answer_to(COMMIT)
    with pytest.raises(StorageUnavailable):
        await storage.claim("saga-1")
    storage._lease.beat()
    async with server.twin() as other:
        assert (await other.claim("saga-1")).fence == 3


# Statements that are transactions, and of which nobody hears

HARMS_AT_ONCE = pytest.mark.parametrize(
    "harm",
    [TcpProxy.cut_at, TcpProxy.lose_answer_to, TcpProxy.forget_at],
    ids=["not-arrived", "answer-lost", "silent"],
)


@pytest.fixture
def at_once(storage: SQLAlchemyStorage) -> SQLAlchemyStorage:
    """A store that writes batches in one statement."""
    if not storage._core.database.takes_json:
        pytest.skip("this server is sent several statements")
    return storage


@hasty
@HARMS_AT_ONCE
async def test_a_write_of_which_nobody_hears_is_recorded_once(
    server: Server, at_once: SQLAlchemyStorage, proxy: TcpProxy, harm: Callable[[TcpProxy, re.Pattern[bytes]], None]
) -> None:
    claim = await created(at_once)
    harm(proxy, STATEMENT)
    with anyio.fail_after(BOUND):
        await at_once.record(write(claim, entry(2, EntryKind.DONE)))
    assert _stored(server) == [("RUNNING", 2, 2)]


@hasty
@HARMS_AT_ONCE
async def test_a_saga_that_begins_unheard_is_free_for_others(
    server: Server, at_once: SQLAlchemyStorage, proxy: TcpProxy, harm: Callable[[TcpProxy, re.Pattern[bytes]], None]
) -> None:
    await created(at_once, "saga-0")
    harm(proxy, STATEMENT)
    with anyio.fail_after(BOUND), pytest.raises(StorageUnavailable):
        await created(at_once)
    at_once._lease.beat()
    async with server.twin() as other:
        assert len(await other.claim_due(["order"], 10)) == (harm is TcpProxy.lose_answer_to)


@hasty
async def test_after_a_while_a_connection_proves_itself_before_a_saga_begins(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    """So that it begins though the connection was lost meanwhile."""
    await created(storage, "saga-0")
    proxy.forget()
    _cool(storage)
    with anyio.fail_after(BOUND):
        await created(storage, "saga-1")
    assert len(_stored(server)) == 2


# Silence


@hasty
async def test_connections_that_fell_silent_are_replaced_in_time(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    """Something in between forgot them: neither side is told, and new ones work."""
    claim = await created(storage)
    await storage.load("saga-1")
    storage._lease.beat()
    proxy.forget()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(storage.record, write(claim, entry(2, EntryKind.DONE)))
            group.start_soon(storage.load, "saga-1")
            group.start_soon(anyio.to_thread.run_sync, storage._lease.beat)
    assert _stored(server) == [("RUNNING", 2, 2)]


@hasty
async def test_a_silence_at_the_commit_is_told_in_time(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    claim = await created(storage)
    proxy.forget_at(COMMIT)
    _cool(storage)
    with anyio.fail_after(BOUND):
        with pytest.raises(StorageUnavailable, match=r"did not answer within 1\.5 s"):
            await storage.record(write(claim, entry(2, EntryKind.DONE)))
        await _until_recorded(storage, write(claim, entry(2, EntryKind.DONE)))
    assert _stored(server) == [("RUNNING", 2, 2)]


async def _until_recorded(storage: SQLAlchemyStorage, what: Write) -> None:
    """The server holds the rows of a transaction that fell silent for as long as it may be idle."""
    while True:
        try:
            await storage.record(what)
        except StorageUnavailable:
            continue
        return


@hasty
async def test_a_server_that_can_ends_the_transactions_of_clients_that_vanished(
    server: Server, storage: SQLAlchemyStorage
) -> None:
    """In the middle of a message, too, where they are not idle; but not a migration, which may take its time."""
    if server.engine.dialect.name != "postgresql":
        pytest.skip("its messages have no parts")
    core, query = storage._core, "SELECT setting FROM pg_settings WHERE name = 'transaction_timeout'"

    def longest(connection: sa.Connection) -> tuple[Any, Any]:
        longest = connection.exec_driver_sql(query).scalar()
        with core.database.alone(connection):
            return longest, connection.exec_driver_sql(query).scalar()

    usual, migrating = await anyio.to_thread.run_sync(core.writer.run, longest)
    if usual is None:
        pytest.skip("PostgreSQL has this limit from version 17 on")
    assert LEASE * 500 < int(usual) < LEASE * 1000
    assert migrating == "0"


@hasty
async def test_a_server_that_accepts_and_says_nothing_is_told_in_time(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    """By every verb, by the heartbeat, and by closing another store."""
    closing = _store(server, proxy)
    await closing.open()
    claim = await created(storage)
    await storage.load("saga-1")

    async def record() -> object:
        return await storage.record(write(claim, entry(2, EntryKind.DONE)))

    async def load() -> object:
        return await storage.load("saga-1")

    async def renew() -> object:
        return await anyio.to_thread.run_sync(storage._core.renew, storage._lease.owner)

    proxy.stall()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            for verb in (record, load, renew):
                group.start_soon(_is_unavailable, verb)
            group.start_soon(closing.aclose)
    proxy.come_back()
    for verb in (record, load, renew):
        await verb()
    assert _stored(server) == [("RUNNING", 2, 2)]


async def _is_unavailable(verb: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(StorageUnavailable):
        await verb()


# Sagas


@define
class Order:
    acts: int = 0


class Reserve(Step[Order]):
    """A step that counts how often it acted."""

    async def act(self, order: Order) -> None:
        order.acts += 1

    async def compensate(self, order: Order) -> None:
        pytest.fail("an error of the store undoes nothing")


class Charge(Reserve):
    """As `Reserve`; what is still to happen then happens while it acts."""

    def __init__(self, *happenings: Callable[[], object]) -> None:
        self._happenings = list(happenings)

    async def act(self, order: Order) -> None:
        while self._happenings:
            self._happenings.pop()()
        await super().act(order)


_WRITING = re.compile(COMMIT.pattern + b"|" + STATEMENT.pattern)
HARMS: dict[str, Callable[[TcpProxy], None]] = {
    "cut": TcpProxy.cut,
    "commit-cut": lambda proxy: proxy.cut_at(_WRITING),
    "answer-lost": lambda proxy: proxy.lose_answer_to(_WRITING),
    "silent": TcpProxy.forget,
}


@hasty
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
async def test_a_saga_does_not_notice_a_connection_that_was_lost(
    storage: SQLAlchemyStorage, proxy: TcpProxy, harm: Callable[[TcpProxy], None]
) -> None:
    saga = Saga[Order](name="order", steps=[Reserve, Charge(lambda: harm(proxy))], storage=storage)
    with anyio.fail_after(BOUND):
        result = await saga.run(Order(), saga_id="o")
    assert (result.state, result.context.acts) == (SagaState.COMPLETED, 2)


@hasty
async def test_a_saga_whose_server_goes_away_goes_on_when_it_is_back(
    server: Server, storage: SQLAlchemyStorage, proxy: TcpProxy
) -> None:
    saga = Saga[Order](name="order", steps=[Reserve, Charge(proxy.down)], storage=storage)
    with anyio.fail_after(BOUND), pytest.raises(StorageUnavailable):
        await saga.run(Order(), saga_id="o")
    assert _stored(server) == [("RUNNING", 3, 3)]
    proxy.come_back()
    storage._lease.beat()
    result = await recover_saga(saga, "o")
    assert (result.state, result.context.acts) == (SagaState.COMPLETED, 2)


async def test_a_connection_whose_rollback_failed_is_not_used_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction may be open still, and what comes next would be part of it; whatever was true of it before."""
    async with server.new_storage() as storage:
        await storage.find()
        writer = storage._core.writer
        refusal = storage._core.database._driver_errors[0]("no rollback")  # type: ignore[attr-defined]

        def fail(_: sa.Connection) -> None:
            raise KeyError

        def refuse(_: object) -> None:
            monkeypatch.undo()  # once: asyncpg's rolls back before it closes
            raise refusal

        def fail_for_good(connection: sa.Connection) -> None:
            monkeypatch.setattr(type(driver_of(connection)), "rollback", refuse)
            raise KeyError

        with pytest.raises(KeyError):
            writer.run(fail)
        kept = writer._connection
        with pytest.raises(KeyError):
            writer.run(fail_for_good)
        assert kept is not None
        assert writer._connection is None
