"""The batches of one incarnation, each of them a transaction: what is in it, and what follows from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
from attrs import define, field

from anysaga._errors import SagaNotFound, StaleFence
from anysaga._records import Claim
from anysaga.storages._batches import Slot
from anysaga.storages._clock import microseconds
from anysaga.storages._lease import Owner
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._jobs import Creation, Job, Recording, Release, Renewal, saga_of
from anysaga.storages.sql._operations import Operations
from anysaga.storages.sql._ownership import Ownership
from anysaga.storages.sql._runner import Lane
from anysaga.storages.sql._writes import Refusal, Writes

_J = TypeVar("_J", Creation, Recording, Release, Renewal)


@define(eq=False)
class _Outcome:
    """What a transaction has found out and written; it counts once that is durable.

    `left` are the jobs whose sagas others have locked at the moment: they are done afterwards, each alone.
    """

    now: int
    owner: Owner | None = None
    renewed: dict[Owner, float] = field(factory=dict[Owner, float])
    claims: dict[str, Claim] = field(factory=dict[str, Claim])
    recorded: dict[str, int | Refusal] = field(factory=dict[str, "int | Refusal"])
    left: set[Job] = field(factory=set["Job"])


class Group:
    """Commits batches. What is wrong with one saga fails that saga alone."""

    def __init__(
        self,
        *,
        opening: Callable[[], None],
        freshen: Callable[[], None],
        writer: Lane,
        database: Database,
        ownership: Ownership,
        operations: Operations,
        writes: Writes,
    ) -> None:
        self._open = opening
        self._freshen = freshen
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
            if self._database.blames_a_row(error) and (len(slots) > 1 or not self._database.one_writer):
                self._commit_each(slots)
                return
            for slot in slots:
                slot.error = error if len(slots) == 1 else _copied(error)

    def _commit_each(self, slots: Sequence[Slot[Job]]) -> None:
        for slot in slots:
            try:
                self._commit([slot])
            except Exception as error:  # noqa: BLE001  # as above
                slot.error = error

    def _commit(self, slots: Sequence[Slot[Job]]) -> None:
        self._open()
        jobs = [slot.work for slot in slots]
        if any(isinstance(job, Creation) for job in jobs):
            self._freshen()
        outcome = self._writer.run(lambda connection: self._carry_out(connection, jobs))
        for owner, since in outcome.renewed.items():
            owner.renewed = since
        for slot in slots:
            if slot.work not in outcome.left:
                slot.error = self._conclude(slot.work, outcome)
        self._commit_each([slot for slot in slots if slot.work in outcome.left])

    def _carry_out(self, connection: sa.Connection, jobs: Sequence[Job]) -> _Outcome:
        outcome = _Outcome(self._database.now(connection))
        for renewal in _only(Renewal, jobs):
            since = self._ownership.renew(connection, renewal.owner, outcome.now)
            if since is not None:
                outcome.renewed[renewal.owner] = since
        creations, recordings, releases = _only(Creation, jobs), _only(Recording, jobs), _only(Release, jobs)
        if creations:
            outcome.owner, since = self._ownership.secure(connection, outcome.now)
            if since is not None:
                outcome.renewed[outcome.owner] = since
        if len(jobs) == 1:
            self._carry_out_one(connection, jobs[0], outcome)
            return outcome
        ids = {job: saga_id for job in jobs if (saga_id := saga_of(job)) is not None}
        positions = self._writes.lock(connection, ids.values())
        outcome.left = {job for job, saga_id in ids.items() if saga_id not in positions}.difference(creations)
        self._create(connection, [job for job in creations if job.new.saga_id not in positions], outcome)
        writes = [job.write for job in recordings if job not in outcome.left]
        outcome.recorded = self._writes.record_all(connection, writes, positions, outcome.now)
        self._release(connection, [job for job in releases if job not in outcome.left], outcome.now)
        return outcome

    def _carry_out_one(self, connection: sa.Connection, job: Job, outcome: _Outcome) -> None:
        match job:
            case Creation():
                if not self._writes.positions(connection, [job.new.saga_id]):
                    self._create(connection, [job], outcome)
            case Recording():
                outcome.recorded[job.write.saga_id] = self._writes.record_one(connection, job.write, outcome.now)
            case Release():
                self._release(connection, [job], outcome.now)

    def _create(self, connection: sa.Connection, creations: Sequence[Creation], outcome: _Outcome) -> None:
        if creations and outcome.owner is not None:
            fresh = [job.new for job in creations]
            label = self._ownership.label
            outcome.claims = self._writes.insert(connection, fresh, outcome.owner.id, label, outcome.now)

    def _release(self, connection: sa.Connection, releases: Sequence[Release], now: int) -> None:
        self._operations.release(connection, [(job.claim, now + microseconds(job.wait)) for job in releases])

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
