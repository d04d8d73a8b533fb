"""The batches of one incarnation, each of them a transaction: what is in it, and what follows from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
from attrs import define, field

from anysaga._errors import SagaNotFound, StaleFence, StorageUnavailable
from anysaga._records import Claim
from anysaga.storages._batches import Slot
from anysaga.storages._clock import microseconds
from anysaga.storages._lease import Orphan, Owner
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._jobs import Creation, Job, Recording, Release, Renewal, saga_of
from anysaga.storages.sql._operations import Operations
from anysaga.storages.sql._ownership import Ownership
from anysaga.storages.sql._runner import Runner
from anysaga.storages.sql._writes import Refusal, Writes

_J = TypeVar("_J", Creation, Recording, Release, Renewal, Orphan)


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
        writer: Runner,
        database: Database,
        ownership: Ownership,
        operations: Operations,
        writes: Writes,
        on_events: Callable[[], None],
    ) -> None:
        self._open = opening
        self._freshen = freshen
        self._writer = writer
        self._database = database
        self._ownership = ownership
        self._operations = operations
        self._writes = writes
        self._on_events = on_events

    def commit(self, slots: Sequence[Slot[Job]]) -> None:
        """Carry out the jobs in one transaction, in the hope that all of them fit.

        If they do not, everything is looked at first; if that does not help, each goes in a transaction of its own.
        Says in each slot what became of it, and raises nothing.
        """
        at_once = self._go_at_once([slot.work for slot in slots])
        if at_once:
            slots = self._write_at_once(slots)
        if not slots:
            return
        is_over = (not at_once and self._try(slots, hopeful=True)) or self._try(slots, hopeful=False)
        if not is_over and len(slots) > 1:
            self._commit_each(slots)

    def _go_at_once(self, jobs: Sequence[Job]) -> bool:
        """Whether there is one statement for all of these, and nothing else to be seen to."""
        if not self._writes.go_at_once or not self._writer.is_warm:
            return False
        for job in jobs:
            match job:
                case Recording():
                    if job.write.events:
                        return False
                case Creation():
                    if not self._ownership.is_young:
                        return False
                case _:
                    return False
        return True

    def _write_at_once(self, slots: Sequence[Slot[Job]]) -> list[Slot[Job]]:
        """Carry out the jobs in one statement. Returns those of which it did not, or nobody knows whether it did."""
        jobs = [slot.work for slot in slots]
        new, writes = [job.new for job in _only(Creation, jobs)], [job.write for job in _only(Recording, jobs)]
        owner, label = self._ownership.lease.owner, self._ownership.label
        try:
            claims, recorded = self._writer.run(
                lambda connection: self._writes.write_at_once(connection, new, writes, owner.id, label), single=True
            )
        except Exception as error:  # noqa: BLE001 - as in `_try`
            return self._left_by(error, slots)
        outcome = _Outcome(0, owner, claims=claims, recorded=dict(recorded))
        left: list[Slot[Job]] = []
        for slot in slots:
            if saga_of(slot.work) in (claims if isinstance(slot.work, Creation) else recorded):
                slot.error = self._conclude(slot.work, outcome)
            else:
                left.append(slot)
        return left

    def _left_by(self, error: Exception, slots: Sequence[Slot[Job]]) -> list[Slot[Job]]:
        """What is to be tried again. If the answer was lost, those are the writes: they tell if they are there."""
        if not isinstance(error, StorageUnavailable) or self._database.blames_a_row(error):
            return list(slots)
        begun = [slot for slot in slots if isinstance(slot.work, Creation)]
        for slot in begun:
            slot.error = _copied(error)
        self._find_orphans(begun)
        return [slot for slot in slots if not isinstance(slot.work, Creation)]

    def _commit_each(self, slots: Sequence[Slot[Job]]) -> None:
        for slot in slots:
            self.commit([slot])

    def _try(self, slots: Sequence[Slot[Job]], *, hopeful: bool) -> bool:
        """False if another attempt may come to another end."""
        try:
            self._commit(slots, hopeful=hopeful)
        except Exception as error:  # noqa: BLE001 - raised where the slots are waited for
            for slot in slots:
                slot.error = error if len(slots) == 1 else _copied(error)
            is_over = not self._database.blames_a_row(error)
            if is_over:
                self._find_orphans(slots)
            return is_over
        return True

    def _find_orphans(self, slots: Sequence[Slot[Job]]) -> None:
        """A commit may have taken effect though its answer was lost: then we own sagas that nobody here drives."""
        lease = self._ownership.lease
        for job in _only(Creation, [slot.work for slot in slots]):
            lease.look_for(Orphan(job.new.saga_id, 1, lease.owner.id))

    def _commit(self, slots: Sequence[Slot[Job]], *, hopeful: bool) -> None:
        self._open()
        jobs = [slot.work for slot in slots]
        if any(isinstance(job, Creation) for job in jobs):
            self._freshen()
        outcome = self._writer.run(lambda connection: self._carry_out(connection, jobs, hopeful=hopeful))
        for owner, since in outcome.renewed.items():
            owner.renewed = since
        for slot in slots:
            slot.error = None if slot.work in outcome.left else self._conclude(slot.work, outcome)
        self._commit_each([slot for slot in slots if slot.work in outcome.left])

    def _carry_out(self, connection: sa.Connection, jobs: Sequence[Job], *, hopeful: bool) -> _Outcome:
        outcome = _Outcome(self._database.now(connection))
        for renewal in _only(Renewal, jobs):
            since = self._ownership.renew(connection, renewal.owner, outcome.now)
            if since is not None:
                outcome.renewed[renewal.owner] = since
        self._create(connection, _only(Creation, jobs), outcome, hopeful=hopeful)
        recordings, releases = _only(Recording, jobs), _only(Release, jobs)
        writes = [job.write for job in recordings]
        if hopeful and (self._database.updates_from_rows or len(jobs) == 1):
            outcome.recorded = self._writes.record_hopefully(connection, writes, outcome.now)
        elif len(jobs) == 1:
            outcome.recorded = {each.saga_id: self._writes.record_one(connection, each, outcome.now) for each in writes}
        else:
            ids: dict[Job, str] = {job: job.write.saga_id for job in recordings}
            ids.update((job, job.claim.record.summary.saga_id) for job in releases)
            positions = self._writes.lock(connection, ids.values())
            outcome.left = {job for job, saga_id in ids.items() if saga_id not in positions}
            writes = [job.write for job in recordings if job not in outcome.left]
            outcome.recorded = self._writes.record_all(connection, writes, positions, outcome.now)
        due = [(job.claim, outcome.now + microseconds(job.wait)) for job in releases if job not in outcome.left]
        self._operations.release(connection, due)
        orphans = [orphan for orphan in _only(Orphan, jobs) if not self._ownership.lease.knows(orphan)]
        self._operations.disown(connection, orphans, outcome.now)
        return outcome

    def _create(
        self, connection: sa.Connection, creations: Sequence[Creation], outcome: _Outcome, *, hopeful: bool
    ) -> None:
        if not creations:
            return
        outcome.owner, since = self._ownership.secure(connection, outcome.now)
        if since is not None:
            outcome.renewed[outcome.owner] = since
        fresh = [job.new for job in creations]
        if not hopeful:
            there = self._writes.positions(connection, [new.saga_id for new in fresh])
            fresh = [new for new in fresh if new.saga_id not in there]
        label = self._ownership.label
        outcome.claims = self._writes.insert(connection, fresh, outcome.owner.id, label, outcome.now)

    def _conclude(self, job: Job, outcome: _Outcome) -> Exception | None:
        lease = self._ownership.lease
        match job:
            case Recording():  # the most common first
                return self._conclude_recording(job, outcome.recorded[job.write.saga_id])
            case Creation():
                claim = outcome.claims.get(job.new.saga_id)
                if claim is not None and outcome.owner is not None:
                    lease.hold(outcome.owner, [claim], job.basket)
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
            if write.has_events:
                self._on_events()
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
