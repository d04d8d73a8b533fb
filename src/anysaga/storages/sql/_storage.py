"""The store on a SQL database."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from functools import partial

import anyio
import sqlalchemy as sa

from anysaga._arguments import check_seconds, is_number
from anysaga._errors import InvalidArgument, StaleFence, StorageError
from anysaga._limits import MAX_SECONDS
from anysaga._records import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaState, SagaSummary, Write
from anysaga.abc import CircuitRecord, CircuitStore, Delivery, Outbox, OutboxLag, Settlement, Storage
from anysaga.storages._clock import Clock, HostClock
from anysaga.storages._lease import Basket
from anysaga.storages.rules import names_of, purgeable, states_of
from anysaga.storages.sql._address import engine_of
from anysaga.storages.sql._core import Core, Taking
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._jobs import Creation, Recording, Release
from anysaga.storages.sql._mysql import MySQLDatabase
from anysaga.storages.sql._postgresql import PostgreSQLDatabase
from anysaga.storages.sql._sqlite import Durability, SQLiteDatabase
from anysaga.storages.sql._verbs import verbs_of

_LEAST_CONNECT_LIMIT, _MOST_CONNECT_LIMIT = 2.0, 3600.0  # libpq takes no less, and PyMySQL no number of any size


class SQLAlchemyStorage(Storage, CircuitStore, Outbox):
    """Keeps sagas in a SQL database, on asyncio and Trio alike: a SQLite file, PostgreSQL, MySQL or MariaDB.

        async with SQLAlchemyStorage("sqlite:///orders.db") as storage:
            result = await OrderSaga(storage=storage).run(order)

    `url_or_engine` is a URL, the path of a SQLite file, or a SQLAlchemy `Engine`, of which this storage takes
    connections of its own: up to three, of whose transactions the engine's listeners hear nothing. The drivers are
    ``sqlite``, ``sqlite+aiosqlite``, ``postgresql+psycopg``, ``postgresql+asyncpg`` and ``mysql+pymysql``. Nothing is
    opened before the first verb or ``async with``.

    `lease` is how many seconds a process may be silent before others take its sagas over; a daemon thread renews
    it every third of that while anything is claimed. On a server its clock is the one that counts. `create_schema`
    lets the tables be created, or brought forward from an earlier version of anysaga, in place. `busy_timeout` is how
    many seconds to wait for a lock that another process holds before `StorageUnavailable`; on a server at most about
    a quarter of the lease. `label` names this process in `find` and in errors; host and process id by default.

    `durability` is for SQLite: ``"full"`` keeps every acknowledged write through a loss of power; ``"normal"`` is
    faster and may lose the last ones then, but none when only the process dies. A server has its own settings for that.

    Raises `StorageRefused` or `MissingDriver` for an address that cannot work, `InvalidArgument` for other options;
    what only the database can tell (`StorageRefused`) comes when it is opened.
    """

    def __init__(
        self,
        url_or_engine: str | os.PathLike[str] | sa.URL | sa.Engine,
        *,
        lease: float = 30.0,
        create_schema: bool = True,
        table_prefix: str = "anysaga_",
        durability: Durability = "full",
        busy_timeout: float = 5.0,
        label: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        _check(lease=lease, durability=durability, busy_timeout=busy_timeout)
        clock = clock or HostClock()
        connect_limit = min(max(lease / 4, _LEAST_CONNECT_LIMIT), _MOST_CONNECT_LIMIT)
        engine = engine_of(url_or_engine, connect_limit=connect_limit)
        database = _database_of(engine, lease=lease, durability=durability, busy_timeout=busy_timeout, clock=clock)
        verbs = verbs_of(table_prefix, engine.dialect, database)
        self._core = Core(database, verbs, lease=lease, create_schema=create_schema, label=label, clock=clock)
        self._lease = self._core.lease
        self._write = self._core.writer.hop

    def __repr__(self) -> str:
        return f"SQLAlchemyStorage({self._core.database.address!r})"

    async def open(self) -> None:
        await self._write(self._core.open)

    async def aclose(self) -> None:
        if self._core.is_closed:
            return
        with anyio.CancelScope(shield=True):
            await self._write(self._core.close)

    async def create(self, new: NewSaga) -> Claim | None:
        creation = Creation(new)
        try:
            await self._core.submit(creation)
        except BaseException:
            self._lease.forsake(creation.basket)
            raise
        return next(iter(creation.basket.claims), None)

    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        claims = await self._take(
            lambda connection, owner, now: self._core.operations.claim(connection, saga_id, states, owner, now)
        )
        return claims[0]

    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        wanted = frozenset(names)
        return await self._take(
            lambda connection, owner, now: self._core.operations.claim_due(connection, wanted, limit, owner, now)
        )

    async def record(self, write: Write) -> int:
        recording = Recording(write)
        await self._core.submit(recording)
        return recording.at

    async def confirm(self, claim: Claim) -> None:
        if not self._lease.holds(claim):
            raise StaleFence(claim.record.summary.saga_id, claim.fence)
        if not self._lease.is_young(self._lease.owner):
            await self._write(partial(self._core.confirm, claim))

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        try:
            await self._core.submit(Release(claim, wait))
        except StorageError:
            self._lease.defer(claim)
            raise

    def defer(self, work: Write | Claim) -> None:
        self._lease.defer(work)

    async def load(self, saga_id: str) -> SagaRecord:
        operations = self._core.operations
        return await self._core.reader.hop(
            partial(self._core.read, lambda connection: operations.load(connection, saga_id))
        )

    async def find(
        self,
        *,
        names: Iterable[str] = (),
        states: Iterable[SagaState] = (),
        limit: int = 100,
        after: str = "",
    ) -> list[SagaSummary]:
        operations, wanted, chosen = self._core.operations, names_of(names), states_of(states)
        return await self._core.reader.hop(
            partial(self._core.read, lambda connection: operations.find(connection, wanted, chosen, limit, after))
        )

    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        operations, chosen = self._core.operations, purgeable(states)
        return await self._write(
            partial(self._core.write, lambda connection, _: operations.purge(connection, before, chosen, limit))
        )

    async def load_circuit(self, name: str) -> CircuitRecord:
        circuits = self._core.circuits
        return await self._core.reader.hop(
            partial(self._core.read_at, lambda connection, now: circuits.load(connection, name, now))
        )

    async def save_circuit(self, name: str, text: str, *, before: int) -> bool:
        circuits = self._core.circuits
        try:
            return await self._write(
                partial(self._core.write, lambda connection, now: circuits.save(connection, name, text, before, now))
            )
        except StorageError:
            if (await self.load_circuit(name)).version != before:  # noqa: ASYNC120 - somebody else may have entered it
                return False
            raise

    async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
        outbox = self._core.outbox
        # Looked for first where it holds up no writer: mostly there is nothing.
        if not await self._core.reader.hop(
            partial(self._core.read_at, lambda connection, now: outbox.is_due(connection, destination, now))
        ):
            return []
        return await self._write(
            partial(
                self._core.write, lambda connection, now: outbox.lease(connection, destination, limit, seconds, now)
            )
        )

    async def settle_events(self, settlements: Iterable[Settlement]) -> None:
        outbox, known = self._core.outbox, list(settlements)
        await self._write(partial(self._core.write, lambda connection, now: outbox.settle(connection, known, now)))

    async def dead_letters(self, *, limit: int = 100, after: Delivery | None = None) -> list[Delivery]:
        outbox = self._core.outbox
        return await self._core.reader.hop(
            partial(self._core.read, lambda connection: outbox.dead(connection, limit, after))
        )

    async def send_again(self, delivery: Delivery) -> bool:
        outbox = self._core.outbox
        revived = await self._write(
            partial(self._core.write, lambda connection, now: outbox.revive(connection, delivery, now))
        )
        self._core.watchers.tell()
        return revived

    async def skip_event(self, delivery: Delivery) -> bool:
        outbox = self._core.outbox
        skipped = await self._write(partial(self._core.write, lambda connection, _: outbox.skip(connection, delivery)))
        self._core.watchers.tell()
        return skipped

    async def outbox_lag(self) -> OutboxLag:
        return await self._core.reader.hop(partial(self._core.read_at, self._core.outbox.lag))

    def watch_events(self, watcher: Callable[[], None]) -> Callable[[], None]:
        return self._core.watchers.add(watcher)

    async def _take(self, operation: Taking) -> list[Claim]:
        basket = Basket()
        try:
            await self._write(partial(self._core.take, operation, basket))
        except BaseException:
            self._lease.forsake(basket)  # the thread may go on, and claim what nobody would use
            raise
        return basket.claims


def _database_of(
    engine: sa.Engine, *, lease: float, durability: Durability, busy_timeout: float, clock: Clock
) -> Database:
    match engine.dialect.name:
        case "sqlite":
            return SQLiteDatabase(engine, durability=durability, busy_timeout=busy_timeout, clock=clock)
        case "postgresql":
            return PostgreSQLDatabase(engine, lease=lease, busy_timeout=busy_timeout)
        case _:
            return MySQLDatabase(engine, lease=lease, busy_timeout=busy_timeout)


def _check(*, lease: float, durability: str, busy_timeout: float) -> None:
    check_seconds(lease=lease)
    if lease > MAX_SECONDS:
        raise InvalidArgument("lease", lease, "it is a number of seconds, or the sagas of a dead process stay its own")
    if durability not in ("full", "normal"):
        raise InvalidArgument("durability", durability, "choose 'full' or 'normal'")
    if not is_number(busy_timeout) or not 0 <= busy_timeout < math.inf:
        raise InvalidArgument("busy_timeout", busy_timeout, "it is a number of seconds, 0 or more")
