"""The store as plain blocking functions: runners, lease and operations put together. Called from worker threads."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from anysaga._errors import StaleFence, StorageClosed, StorageError, StorageUnavailable
from anysaga._records import Claim, Write
from anysaga.storages._batches import Batches
from anysaga.storages._clock import Clock
from anysaga.storages._forks import survive_forks
from anysaga.storages._lease import Basket, Errand, Lease, Orphan, Owner
from anysaga.storages._watchers import Watchers
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._group import Group
from anysaga.storages.sql._jobs import Job, Recording, Release, Renewal, saga_of
from anysaga.storages.sql._ownership import Ownership
from anysaga.storages.sql._runner import Runner
from anysaga.storages.sql._schema import bring_forward, is_ready
from anysaga.storages.sql._verbs import Verbs

_T = TypeVar("_T")

LEAST_LIMIT = 1.0
"""Seconds that a transaction may take at least, however short the lease is."""

_LONGEST_MIGRATION = 3600.0

Taking = Callable[[sa.Connection, str, int], list[Claim]]
"""An operation that claims sagas for an owner at a moment."""


class Core:
    """One incarnation after another on one database. Every method runs one transaction, in the calling thread."""

    def __init__(
        self,
        database: Database,
        verbs: Verbs,
        *,
        lease: float,
        create_schema: bool,
        label: str | None,
        clock: Clock,
    ) -> None:
        self.database = database
        self.operations = verbs.operations
        self.circuits = verbs.circuits
        self.outbox = verbs.outbox
        self.watchers = Watchers()
        limit = math.inf if database.one_writer else max(lease / 2, LEAST_LIMIT)
        self.writer = Runner(database, writes=True, limit=limit)
        self.reader = Runner(database, writes=False, limit=limit)
        # Where other processes may wait for the lease's row, no batch may hold it: it is renewed apart. Its limit
        # leaves the time for a second renewal by a new connection.
        heart = Runner(database, writes=True, limit=max(lease / 4, LEAST_LIMIT))
        self._heart = None if database.one_writer else heart
        self._runners = [runner for runner in (self.writer, self.reader, self._heart) if runner is not None]
        self.lease = Lease(self, span=lease, clock=clock)
        self._ownership = Ownership(self.lease, self.operations, label=label, clock=clock)
        group = Group(
            opening=self.open,
            freshen=self._freshen,
            writer=self.writer,
            database=database,
            ownership=self._ownership,
            operations=self.operations,
            writes=verbs.writes,
            on_events=self.watchers.tell,
        )
        self.batches: Batches[Job] = Batches(group.commit)
        self._tables = verbs.tables
        self._create_schema = create_schema
        self._opening = threading.Lock()
        self._is_open = False
        self.is_closed = False
        for runner in self._runners:
            weakref.finalize(self, runner.abandon).atexit = False  # for a storage that was dropped and never closed
        survive_forks(self)

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
            self.batches.stop()
            for runner in self._runners:
                runner.close()

    def take(self, operation: Taking, basket: Basket) -> None:
        """Claim by `operation`. The claims are kept alive from the commit on, and lie in the basket."""
        self.open()
        self._freshen()

        taken: list[Orphan] = []

        def transaction(connection: sa.Connection) -> tuple[Owner, float | None, list[Claim]]:
            self.lease.taking.difference_update(taken)
            now = self.database.now(connection)
            owner, renewed = self._ownership.secure(connection, now)
            claims = operation(connection, owner.id, now)
            taken[:] = [Orphan(claim.record.summary.saga_id, claim.fence, owner.id) for claim in claims]
            self.lease.taking.update(taken)
            return owner, renewed, claims

        try:
            owner, renewed, claims = self.writer.run(transaction)
            if renewed is not None:
                owner.renewed = renewed
            if claims:
                self.lease.hold(owner, claims, basket)
        except StorageError:
            for orphan in taken:  # the commit may have taken effect though its answer was lost
                self.lease.look_for(orphan)
            raise
        finally:
            self.lease.taking.difference_update(taken)

    def read(self, operation: Callable[[sa.Connection], _T]) -> _T:
        """Run an operation that writes nothing, on a snapshot."""
        self.open()
        return self.reader.run(operation)

    def read_at(self, operation: Callable[[sa.Connection, int], _T]) -> _T:
        """The same for one that needs the moment."""
        self.open()
        return self.reader.run(lambda connection: operation(connection, self.database.now(connection)))

    def write(self, operation: Callable[[sa.Connection, int], _T]) -> _T:
        """Run an operation that needs the moment and no lease."""
        self.open()
        return self.writer.run(lambda connection: operation(connection, self.database.now(connection)))

    def confirm(self, claim: Claim) -> None:
        """Renew the lease and compare the fence."""
        self.open()
        saga_id, owner = claim.record.summary.saga_id, self.lease.owner
        runner = self._heart or self.writer

        def transaction(connection: sa.Connection) -> tuple[float | None, int | None]:
            since = self._ownership.renew(connection, owner, self.database.now(connection))
            return since, self.operations.fence(connection, saga_id)

        since, fence = runner.run(transaction)
        if since is None:
            self.lease.bury(owner)
        else:
            owner.renewed = since
        if fence != claim.fence:
            self._ownership.lose(saga_id, claim.fence)
        if not self.lease.holds(claim):
            raise StaleFence(saga_id, claim.fence)

    def submit(self, job: Job) -> Awaitable[None]:
        """Carry out a job in the next batch. Raises what fails it."""
        if self.is_closed:
            raise StorageClosed(self.database.address)
        return self.batches.put(job, saga_of(job))

    def renew(self, owner: Owner) -> bool:
        """Renew the lease, first in the next batch or apart. False: this incarnation was declared dead."""
        if self._heart is not None:
            since = self._heart.run(
                lambda connection: self._ownership.renew(connection, owner, self.database.now(connection))
            )
            owner.renewed = owner.renewed if since is None else since
            return since is not None
        renewal = Renewal(owner)
        self.batches.put_first(renewal, None)
        return renewal.renewed

    def run_errand(self, errand: Errand) -> None:
        """Record a deferred write, release a claim that nobody uses, or disown an orphan. Twice is harmless."""
        job = _job_of(errand)
        if not self.batches.put_first(job, saga_of(job), wait=self.lease.interval):
            raise StorageUnavailable(self.database.address, "other writes took too long")

    def pause(self) -> None:
        """Finish the transactions under way, and begin none before `resume`."""
        self.batches.pause()
        for runner in self._runners:
            runner.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        for runner in reversed(self._runners):
            runner.resume()
        self.batches.resume()

    def forget_parent(self) -> None:
        """Begin anew in a forked child: connections, locks, thread and claims stay the parent's."""
        for runner in self._runners:
            runner.forget_parent()
        self.lease.forget_parent()
        self.batches.forget()
        self.watchers.forget()
        self._opening = threading.Lock()
        self._is_open = False

    def _open_once(self) -> None:
        if self._is_open:
            return
        database, tables, create = self.database, self._tables, self._create_schema
        if not self.writer.run(lambda connection: is_ready(connection, database, tables, create=create)):
            forward = partial(bring_forward, database=database, tables=tables)
            self.writer.run(forward, limit=_LONGEST_MIGRATION)
        self.lease.start()
        self._is_open = True

    def _freshen(self) -> None:
        """Renew the lease apart, if it is not young any more and to be renewed apart."""
        if self._heart is None or self.lease.is_young(self.lease.owner):
            return
        owner, renewed = self._heart.run(
            lambda connection: self._ownership.secure(connection, self.database.now(connection))
        )
        if renewed is not None:
            owner.renewed = renewed

    def _leave(self, held: list[Claim]) -> None:
        self.lease.beat()

        def transaction(connection: sa.Connection) -> None:
            now = self.database.now(connection)
            self.operations.release(connection, [(claim, now) for claim in held])
            self.operations.leave(connection, self.lease.owner.id)

        self.writer.run(transaction)


def _job_of(errand: Errand) -> Job:
    match errand:
        case Claim():
            return Release(errand)
        case Write():
            return Recording(errand)
        case Orphan():
            return errand
