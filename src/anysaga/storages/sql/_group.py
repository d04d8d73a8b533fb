"""The batches of one incarnation, each of them a transaction: what is in it, and what follows from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
from attrs import define, field

from anysaga._errors import SagaNotFound, StaleFence
from anysaga._records import Claim, Write
from anysaga.storages._batches import Slot
from anysaga.storages._clock import microseconds
from anysaga.storages._lease import Owner
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._jobs import Creation, Job, Recording, Release, Renewal
from anysaga.storages.sql._operations import Operations
from anysaga.storages.sql._ownership import Ownership
from anysaga.storages.sql._runner import Lane
from anysaga.storages.sql._writes import Position, Refusal, Writes

_J = TypeVar("_J", Creation, Recording, Release, Renewal)


@define(eq=False)
class _Outcome:
    """What a transaction has found out and written; it counts once that is durable."""

    now: int
    owner: Owner | None = None
    renewed: dict[Owner, float] = field(factory=dict[Owner, float])
    claims: dict[str, Claim] = field(factory=dict[str, Claim])
    recorded: dict[str, int | Refusal] = field(factory=dict[str, "int | Refusal"])


class Group:
    """Commits batches. What is wrong with one saga fails that saga alone."""

    def __init__(
        self,
        *,
        opening: Callable[[], None],
        writer: Lane,
        database: Database,
        ownership: Ownership,
        operations: Operations,
        writes: Writes,
    ) -> None:
        self._open = opening
        self._writer = writer
        self._database = database
        self._ownership = ownership
        self._operations = operations
        self._writes = writes

    def commit(self, slots: Sequence[Slot[Job]]) -> None:
        """Carry out the jobs in one transaction; if a row of theirs cannot be stored, once more, each in its own.

        Says in each slot what became of it, and raises nothing.
        """
        try:
            self._commit(slots)
        except Exception as error:  # noqa: BLE001  # raised where the slots are waited for
            if len(slots) > 1 and self._database.blames_a_row(error):
                for slot in slots:
                    self.commit([slot])
                return
            for slot in slots:
                slot.error = error if len(slots) == 1 else _copied(error)

    def _commit(self, slots: Sequence[Slot[Job]]) -> None:
        self._open()
        jobs = [slot.work for slot in slots]
        outcome = self._writer.run(lambda connection: self._carry_out(connection, jobs))
        for owner, since in outcome.renewed.items():
            owner.renewed = since
        for slot in slots:
            slot.error = self._conclude(slot.work, outcome)

    def _carry_out(self, connection: sa.Connection, jobs: Sequence[Job]) -> _Outcome:
        outcome = _Outcome(self._database.now(connection))
        for renewal in _only(Renewal, jobs):
            since = self._ownership.renew(connection, renewal.owner, outcome.now)
            if since is not None:
                outcome.renewed[renewal.owner] = since
        creations, recordings = _only(Creation, jobs), _only(Recording, jobs)
        positions = self._positions(connection, creations, recordings)
        self._create(connection, creations, positions, outcome)
        self._record(connection, [job.write for job in recordings], positions, outcome)
        releases = [(job.claim, outcome.now + microseconds(job.wait)) for job in _only(Release, jobs)]
        self._operations.release(connection, releases)
        return outcome

    def _positions(
        self, connection: sa.Connection, creations: Sequence[Creation], recordings: Sequence[Recording]
    ) -> dict[str, Position]:
        ids = [job.new.saga_id for job in creations]
        if len(recordings) > 1:  # a single one finds out by itself
            ids += [job.write.saga_id for job in recordings]
        return self._writes.positions(connection, ids)

    def _create(
        self,
        connection: sa.Connection,
        creations: Sequence[Creation],
        positions: dict[str, Position],
        outcome: _Outcome,
    ) -> None:
        fresh = [job.new for job in creations if job.new.saga_id not in positions]
        if not fresh:
            return
        outcome.owner, since = self._ownership.secure(connection, outcome.now)
        if since is not None:
            outcome.renewed[outcome.owner] = since
        label = self._ownership.label
        outcome.claims = self._writes.insert(connection, fresh, outcome.owner.id, label, outcome.now)

    def _record(
        self, connection: sa.Connection, writes: Sequence[Write], positions: dict[str, Position], outcome: _Outcome
    ) -> None:
        if len(writes) == 1:
            (write,) = writes
            outcome.recorded = {write.saga_id: self._writes.record_one(connection, write, outcome.now)}
        elif writes:
            outcome.recorded = self._writes.record_all(connection, writes, positions, outcome.now)

    def _conclude(self, job: Job, outcome: _Outcome) -> Exception | None:
        lease = self._ownership.lease
        match job:
            case Creation():
                claim = outcome.claims.get(job.new.saga_id)
                if claim is not None and outcome.owner is not None:
                    lease.hold(outcome.owner, [claim], job.basket)
            case Recording():
                return self._conclude_recording(job, outcome.recorded[job.write.saga_id])
            case Release():
                lease.let_go(job.claim.record.summary.saga_id, job.claim.fence)
            case Renewal():
                job.renewed = job.owner in outcome.renewed
        return None

    def _conclude_recording(self, job: Recording, result: int | Refusal) -> Exception | None:
        """Keep the claim alive no longer if the write frees the saga, or was overtaken."""
        write = job.write
        if not isinstance(result, Refusal):
            job.at = result
            if write.frees:
                self._ownership.lease.let_go(write.saga_id, write.fence)
            return None
        if result.fence != write.fence:
            self._ownership.lose(write.saga_id, write.fence)
        return SagaNotFound(write.saga_id) if result.fence is None else StaleFence(write.saga_id, write.fence)


def _only(kind: type[_J], jobs: Sequence[Job]) -> list[_J]:
    return [job for job in jobs if isinstance(job, kind)]


def _copied(error: Exception) -> Exception:
    """The same error for one more task: each adds a traceback of its own."""
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again
