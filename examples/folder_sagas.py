"""What `folder_storage.py` is made of: a file under a lock, and the contract's rules as pure functions of sagas."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve
from cattrs.preconf.json import make_converter

from anysaga import InvalidArgument, OperationRefused, SagaAlreadyRunning, SagaNotFound, StaleFence
from anysaga.abc import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaState, SagaSummary, Write

Sagas = dict[str, SagaRecord]
JSON = make_converter()


@contextmanager
def locked_sagas(folder: Path) -> Iterator[Sagas]:
    """All sagas of a folder, for one block at a time in all threads and processes. What it changes is kept."""
    file, draft = folder / "sagas.json", folder / "sagas.new"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = JSON.loads(file.read_text(), Sagas) if file.exists() else {}
        sagas = {saga_id: without_dead_owner(saga, folder) for saga_id, saga in stored.items()}
        yield sagas
        if sagas != stored:
            with draft.open("w") as page:
                page.write(JSON.dumps(sagas))
                page.flush()
                os.fsync(page.fileno())
            draft.replace(file)


def without_dead_owner(saga: SagaRecord, folder: Path) -> SagaRecord:
    """The saga, free if its owner's process holds the lock on the owner's file no longer."""
    if saga.summary.owner is None:
        return saga
    try:
        with (folder / saga.summary.owner).open("a") as life:
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return saga
    return evolve(saga, summary=evolve(saga.summary, owner=None))


def begun(new: NewSaga, now: int) -> SagaRecord:
    """A saga that nobody has claimed yet."""
    entries = tuple(evolve(entry, at=now) for entry in new.entries)
    deadline = None if new.timeout is None else now + round(new.timeout * 1e6)
    head = (new.saga_id, new.name, new.version, new.state, 0, len(entries), None, 0)
    summary = SagaSummary(*head, created_at=now, updated_at=now, next_attempt_at=now, deadline=deadline)
    return SagaRecord(summary, new.outline, new.digest, new.context, entries)


def claimable(saga: SagaRecord, states: frozenset[SagaState]) -> SagaRecord:
    """The same saga, if it is free and in one of these states."""
    if saga.summary.owner is not None:
        raise SagaAlreadyRunning(saga.summary.saga_id, saga.summary.owner)
    if saga.summary.state not in states:
        raise OperationRefused(saga.summary.saga_id, "claim", f"it is {saga.summary.state}")
    return saga


def taken(saga: SagaRecord, owner: str) -> SagaRecord:
    """The saga with a new owner, and the next fence."""
    old = saga.summary
    return evolve(saga, summary=evolve(old, owner=owner, fence=old.fence + 1, claims=old.claims + 1))


def given_back(saga: SagaRecord, claim: Claim, due_at: int) -> SagaRecord:
    """The saga without an owner; unchanged if the claim holds no longer."""
    old = saga.summary
    if old.owner is None or old.fence != claim.fence:
        return saga
    return evolve(saga, summary=evolve(old, owner=None, claims=max(old.claims - 1, 0), next_attempt_at=due_at))


def written(saga: SagaRecord, write: Write, now: int) -> SagaRecord:
    """The saga after a write; unchanged if exactly this write was the last one."""
    old = saga.summary
    if old.fence != write.fence or old.seq != write.before:
        last = saga.entries[-len(write.entries) :]
        if old.seq != write.after or [evolve(entry, at=0) for entry in last] != list(write.entries):
            raise StaleFence(write.saga_id, write.fence)
        return saga
    owner, claims = None if write.frees else old.owner, 0 if write.settles else old.claims
    head = evolve(old, state=write.state, seq=write.after, owner=owner, claims=claims, note=write.note)
    summary = evolve(head, updated_at=now, next_attempt_at=now + round(write.wait * 1e6))
    return evolve(saga, summary=summary, entries=(*saga.entries, *(evolve(entry, at=now) for entry in write.entries)))


def get(sagas: Sagas, saga_id: str) -> SagaRecord:
    """The saga of this id."""
    if saga_id not in sagas:
        raise SagaNotFound(saga_id)
    return sagas[saga_id]


def due(sagas: Sagas, names: set[str], now: int) -> list[SagaRecord]:
    """The free sagas that recovery may take, the longest due first; each is due later if it is taken in vain."""
    live = [saga.summary for saga in sagas.values() if saga.summary.state in LIVE_STATES and not saga.summary.owner]
    wanted = [summary for summary in live if summary.name in names and summary.next_attempt_at <= now]
    wanted.sort(key=lambda summary: (summary.next_attempt_at, summary.saga_id))
    later = [evolve(summary, next_attempt_at=now + summary.claims * 1_000_000) for summary in wanted]
    return [evolve(sagas[summary.saga_id], summary=summary) for summary in later]


def found(sagas: Sagas, names: set[str], states: set[SagaState], after: str) -> list[SagaSummary]:
    """Summaries by id; an empty set stands for all."""
    listed = [sagas[saga_id].summary for saga_id in sorted(sagas) if saga_id > after]
    return [one for one in listed if (one.name in names or not names) and (one.state in states or not states)]


def over(sagas: Sagas, states: set[SagaState], before: int) -> list[str]:
    """The ids of sagas that ended before a moment, in one of these states."""
    needed = sorted(states & {*LIVE_STATES, SagaState.PARKED})
    if needed:
        raise InvalidArgument("states", needed, "live and parked sagas are still needed")
    ended = [saga.summary for saga in sagas.values() if saga.summary.state in states]
    return [summary.saga_id for summary in ended if summary.updated_at < before]
