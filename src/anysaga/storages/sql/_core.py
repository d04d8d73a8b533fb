"""The store as plain blocking functions: lanes, lease and operations put together. Called from worker threads."""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from anysaga._errors import SagaNotFound, StaleFence, StorageClosed, StorageError
from anysaga._records import Claim, Write
from anysaga.storages._clock import Clock, microseconds
from anysaga.storages._lease import Basket, Lease, Owner
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._forks import survive_forks
from anysaga.storages.sql._operations import Operations, Refusal
from anysaga.storages.sql._runner import Lane
from anysaga.storages.sql._schema import prepare
from anysaga.storages.sql._tables import Tables

_T = TypeVar("_T")

Taking = Callable[[sa.Connection, str, int], list[Claim]]
"""An operation that claims sagas for an owner at a moment."""


class Core:
    """One incarnation after another on one database. Every method runs one transaction, in the calling thread."""

    def __init__(
        self,
        database: Database,
        tables: Tables,
        *,
        lease: float,
        create_schema: bool,
        label: str | None,
        clock: Clock,
    ) -> None:
        self.database = database
        self.operations = Operations(tables)
        self.writer = Lane(database, writes=True)
        self.reader = Lane(database, writes=False)
        self.lease = Lease(self, span=lease, clock=clock)
        self._tables = tables
        self._create_schema = create_schema
        self._label = label
        self._clock = clock
        self._opening = threading.Lock()
        self._is_open = False
        self.is_closed = False
        for lane in (self.writer, self.reader):
            weakref.finalize(self, lane.close).atexit = False  # for a storage that was dropped and never closed
        survive_forks(self)

    @property
    def label(self) -> str:
        """What `find` and errors call this incarnation."""
        return (self._label or f"{socket.gethostname()}:{os.getpid()}")[:200]

    def open(self) -> None:
        """Open the database, see to the tables, start the heartbeat; unless all that was done before."""
        if self.is_closed:
            raise StorageClosed(self.database.address)
        if not self._is_open:
            with self._opening:
                self._open_once()

    def close(self) -> None:
        """Run the errands, give back what is held, forget the incarnation, and let go of the connections."""
        if self.is_closed:
            return
        self.lease.stop()
        held = self.lease.held()
        for claim in held:
            claim.lose()
        try:
            if self._is_open:
                self._leave(held)
        except StorageError:
            pass  # the lease runs out by itself, so nothing is lost but time
        finally:
            self.is_closed = True
            self.lease.bury(self.lease.owner)
            self.writer.close()
            self.reader.close()

    def take(self, operation: Taking, basket: Basket) -> None:
        """Claim by `operation`. The claims are kept alive from the commit on, and lie in the basket."""
        self.open()

        def transaction(connection: sa.Connection) -> tuple[Owner, float | None, list[Claim]]:
            now = self.database.now(connection)
            owner, renewed = self._secure(connection, now)
            return owner, renewed, operation(connection, owner.id, now)

        owner, renewed, claims = self.writer.run(transaction)
        if renewed is not None:
            owner.renewed = renewed
        if claims:
            self.lease.hold(owner, claims, basket)

    def read(self, operation: Callable[[sa.Connection], _T]) -> _T:
        """Run an operation that writes nothing, on a snapshot."""
        self.open()
        return self.reader.run(operation)

    def write(self, operation: Callable[[sa.Connection, int], _T]) -> _T:
        """Run an operation that needs the moment and no lease."""
        self.open()
        return self.writer.run(lambda connection: operation(connection, self.database.now(connection)))

    def record(self, write: Write) -> int:
        """Record a write, and keep its claim alive no longer if it frees the saga or was overtaken."""
        result = self.write(lambda connection, now: self.operations.record(connection, write, now))
        if isinstance(result, Refusal):
            raise self._refused(write, result)
        if write.frees:
            self.lease.let_go(write.saga_id, write.fence)
        return result

    def confirm(self, claim: Claim) -> None:
        """Renew the lease and compare the fence, in one transaction."""
        self.open()
        saga_id, owner, begun = claim.record.summary.saga_id, self.lease.owner, self._clock.monotonic()

        def transaction(connection: sa.Connection) -> tuple[bool, int | None]:
            expiry = self._expiry(self.database.now(connection))
            renewed = self.operations.renew(connection, owner.id, expiry)
            return renewed, self.operations.fence(connection, saga_id)

        renewed, fence = self.writer.run(transaction)
        if renewed:
            owner.renewed = begun
        else:
            self.lease.bury(owner)
        if fence != claim.fence:
            self._lose(saga_id, claim.fence)
        if not self.lease.holds(claim):
            raise StaleFence(saga_id, claim.fence)

    def release(self, claim: Claim, wait: float) -> None:
        """Give a claim back."""
        self.write(lambda connection, now: self.operations.release(connection, [claim], now + microseconds(wait)))
        self.lease.let_go(claim.record.summary.saga_id, claim.fence)

    def renew(self, owner: Owner) -> bool:
        """Renew the lease. False: this incarnation was declared dead."""
        begun = self._clock.monotonic()
        renewed = self.writer.run(
            lambda connection: self.operations.renew(connection, owner.id, self._expiry(self.database.now(connection)))
        )
        if renewed:
            owner.renewed = begun
        return renewed

    def run_errand(self, errand: Write | Claim) -> None:
        """Record a deferred write, or release a claim that nobody uses."""
        if isinstance(errand, Write):
            self.record(errand)
        else:
            self.release(errand, 0.0)

    def pause(self) -> None:
        """Finish the transactions under way, and begin none before `resume`."""
        self.writer.pause()
        self.reader.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.reader.resume()
        self.writer.resume()

    def forget_parent(self) -> None:
        """Begin anew in a forked child: connections, locks, thread and claims stay the parent's."""
        self.writer.forget_parent()
        self.reader.forget_parent()
        self.lease.forget_parent()
        self._opening = threading.Lock()
        self._is_open = False

    def _open_once(self) -> None:
        if self._is_open:
            return
        address, create = self.database.address, self._create_schema
        self.writer.run(lambda connection: prepare(connection, self._tables, address, create=create))
        self.lease.start()
        self._is_open = True

    def _secure(self, connection: sa.Connection, now: int) -> tuple[Owner, float | None]:
        """The owner to claim for, its lease good for a while, and since when, if this transaction renews it.

        Wherever there is no row to renew, a fresh id is entered: the row of the old one may be there and dead.
        """
        owner = self.lease.owner
        if self.lease.is_young(owner) and self.operations.is_alive(connection, owner.id, now):
            return owner, None
        begun = self._clock.monotonic()
        if self.operations.renew(connection, owner.id, self._expiry(now)):
            return owner, begun
        self.lease.bury(owner)
        owner = self.lease.owner
        self.operations.register(connection, owner.id, self.label, self._expiry(now))
        return owner, begun

    def _expiry(self, now: int) -> int:
        return now + microseconds(self.lease.span)

    def _leave(self, held: list[Claim]) -> None:
        self.lease.beat()

        def transaction(connection: sa.Connection) -> None:
            self.operations.release(connection, held, self.database.now(connection))
            self.operations.leave(connection, self.lease.owner.id)

        self.writer.run(transaction)

    def _refused(self, write: Write, refusal: Refusal) -> Exception:
        if refusal.fence != write.fence:
            self._lose(write.saga_id, write.fence)
        if refusal.fence is None:
            return SagaNotFound(write.saga_id)
        return StaleFence(write.saga_id, write.fence)

    def _lose(self, saga_id: str, fence: int) -> None:
        claim = self.lease.let_go(saga_id, fence)
        if claim is not None:
            claim.lose()
