"""The storage contract's rules as pure functions of records, for whoever writes a store.

A store by the contract in `anysaga.abc` reads a record, asks a rule what becomes of it, and keeps the answer, all in
one transaction. No rule reads a clock, waits, or changes what it is given: `now` is the store's own time in
microseconds. A store that keeps columns instead of records (in SQL, say) says the same in its own language. `Holder` is
the one thing here that is no function: what a storage object remembers between two transactions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress

from attrs import define, evolve, field

from anysaga._errors import InvalidArgument, OperationRefused, SagaAlreadyRunning, SagaNotFound, StaleFence
from anysaga._records import LIVE_STATES, Claim, Entry, NewSaga, SagaRecord, SagaState, SagaSummary, Write
from anysaga.storages._clock import microseconds

Sagas = MutableMapping[str, SagaRecord]
"""Records by their saga ids."""

_FREE_CLAIMS = 2
_LONGEST_PATIENCE = 60


def begun(new: NewSaga, now: int) -> SagaRecord:
    """The record of a saga that begins, without an owner: `claimed` gives it its first one, and with it fence 1."""
    entries = tuple(entry.stamped(now) for entry in new.entries)
    summary = SagaSummary(
        saga_id=new.saga_id,
        name=new.name,
        version=new.version,
        state=new.state,
        fence=0,
        seq=entries[-1].seq if entries else 0,
        owner=None,
        claims=0,
        created_at=now,
        updated_at=now,
        next_attempt_at=now,
        deadline=None if new.timeout is None else now + microseconds(new.timeout),
    )
    return SagaRecord(summary, new.outline, new.digest, new.context, entries)


def known(sagas: Mapping[str, SagaRecord], saga_id: str) -> SagaRecord:
    """The saga of this id. Raises `SagaNotFound`."""
    if saga_id not in sagas:
        raise SagaNotFound(saga_id)
    return sagas[saga_id]


def claimed(saga: SagaRecord, owner: str, *, states: frozenset[SagaState] = LIVE_STATES) -> SagaRecord:
    """The saga in the hands of `owner`: its fence and its count of claims are one more.

    Raises `SagaAlreadyRunning` if it has an owner (`freed` it first if that one is dead), and `OperationRefused` if its
    state is not among `states`.
    """
    old = saga.summary
    if old.owner is not None:
        raise SagaAlreadyRunning(old.saga_id, old.owner)
    if old.state not in states:
        raise OperationRefused(old.saga_id, "claim", f"it is {old.state}")
    return evolve(saga, summary=evolve(old, owner=owner, fence=old.fence + 1, claims=old.claims + 1))


def freed(saga: SagaRecord) -> SagaRecord:
    """The saga without its owner, who is dead. Its fence stays, and so does the claim that is counted."""
    return evolve(saga, summary=evolve(saga.summary, owner=None))


def given_back(saga: SagaRecord, fence: int, now: int, wait: float = 0.0) -> SagaRecord:
    """The saga after a claim with this fence was released: no owner, one claim less, due again in `wait` seconds.

    The same saga if the fence is no longer current, or nobody owns it.
    """
    old = saga.summary
    if old.owner is None or old.fence != fence:
        return saga
    due_at = now + microseconds(wait)
    return evolve(saga, summary=evolve(old, owner=None, claims=max(old.claims - 1, 0), next_attempt_at=due_at))


def written(saga: SagaRecord, write: Write, now: int) -> SagaRecord:
    """The saga after `write`; the same saga if exactly this write was its last one.

    The moment to return from `record` is that of the last entry. Raises `StaleFence` if the fence or the seq does not
    fit.
    """
    old = saga.summary
    if old.fence != write.fence or old.seq != write.before:
        last = saga.entries[-len(write.entries) :]
        if old.seq != write.after or not same_entries(last, write.entries):
            raise StaleFence(write.saga_id, write.fence)
        return saga
    summary = evolve(
        old,
        state=write.state,
        seq=write.after,
        owner=None if write.frees else old.owner,
        claims=0 if write.settles else old.claims,
        updated_at=now,
        next_attempt_at=now + microseconds(write.wait),
        note=write.note,
    )
    return evolve(saga, summary=summary, entries=(*saga.entries, *(entry.stamped(now) for entry in write.entries)))


def same_entries(stored: Sequence[Entry], sent: Sequence[Entry]) -> bool:
    """Whether two runs of entries say the same; the moment is the store's own and does not count."""
    return len(stored) == len(sent) and all(a.stamped(b.at) == b for a, b in zip(stored, sent, strict=True))


def due(sagas: Iterable[SagaRecord], names: Iterable[str], now: int, limit: int) -> list[SagaRecord]:
    """Up to `limit` sagas of these names that are live, free and due, the longest due first; `claim_due` takes them.

    Each comes back as `postponed`, so that a claim in vain costs it its turn.
    """
    wanted = frozenset(names)
    free = (saga for saga in sagas if saga.summary.owner is None and saga.summary.state in LIVE_STATES)
    ready = [saga for saga in free if saga.summary.name in wanted and saga.summary.next_attempt_at <= now]
    ready.sort(key=lambda saga: (saga.summary.next_attempt_at, saga.summary.saga_id))
    return [postponed(saga, now) for saga in ready[:limit]]


def postponed(saga: SagaRecord, now: int) -> SagaRecord:
    """The saga, due again once the `patience` for its next claim is over."""
    old = saga.summary
    return evolve(saga, summary=evolve(old, next_attempt_at=now + patience(old.claims + 1)))


def patience(claims: int) -> int:
    """Microseconds until a saga is due again after its `claims`-th claim without an outcome."""
    more = claims - _FREE_CLAIMS
    if more <= 0:
        return 0
    return microseconds(min(2 ** min(more - 1, 6), _LONGEST_PATIENCE))


def listed(
    sagas: Iterable[SagaRecord], names: Iterable[str], states: Iterable[SagaState], limit: int, after: str
) -> list[SagaSummary]:
    """Up to `limit` summaries in the order of their ids, which come after `after`; no name or no state means any."""
    wanted, chosen = names_of(names), states_of(states)
    found = [
        saga.summary
        for saga in sagas
        if saga.summary.saga_id > after
        and (not wanted or saga.summary.name in wanted)
        and (not chosen or saga.summary.state in chosen)
    ]
    return sorted(found, key=lambda summary: summary.saga_id)[:limit]


def forgettable(sagas: Iterable[SagaRecord], before: int, states: Iterable[SagaState], limit: int) -> list[str]:
    """The ids of up to `limit` sagas in these states since before the moment `before`, the oldest first.

    Raises `InvalidArgument` as `purgeable` does.
    """
    chosen = purgeable(states)
    over = [saga.summary for saga in sagas if saga.summary.state in chosen and saga.summary.updated_at < before]
    over.sort(key=lambda summary: (summary.updated_at, summary.saga_id))
    return [summary.saga_id for summary in over[:limit]]


def names_of(names: Iterable[str]) -> frozenset[str]:
    """The names of sagas to look for. Raises `InvalidArgument` for one name in the place of several."""
    if isinstance(names, str):
        raise InvalidArgument("names", names, "give a list of names")
    return frozenset(names)


def states_of(states: Iterable[SagaState]) -> frozenset[SagaState]:
    """The states that are meant, also where their names are given. Raises `InvalidArgument` for anything else."""
    try:
        return frozenset(map(SagaState, states))  # of one text the letters, none of which is a state
    except (TypeError, ValueError) as error:
        advice = f"give a list of states, such as [SagaState.PARKED]: there are {', '.join(SagaState)}"
        raise InvalidArgument("states", states, advice) from error


def purgeable(states: Iterable[SagaState]) -> frozenset[SagaState]:
    """The states to purge. Raises `InvalidArgument` if one of them says that the saga is still needed."""
    chosen = states_of(states)
    needed = sorted(state for state in chosen if state is SagaState.PARKED or not state.is_end)
    if needed:
        raise InvalidArgument("states", needed, "only sagas that are over can be forgotten, not live or parked ones")
    return chosen


@define(eq=False)
class Holder:
    """What one incarnation knows of itself: its name, the claims it holds, and the work that was deferred to it.

    Its methods change `sagas`, which the store has read in a transaction and keeps at its end, or not at all. Those
    with `sagas` are called by one thread at a time, the others from any thread.
    """

    owner: str
    # Each is used by single operations only, which no other thread can divide.
    _claims: dict[tuple[str, int], Claim] = field(factory=dict[tuple[str, int], Claim], init=False)
    _deferred: deque[Write | Claim] = field(factory=deque[Write | Claim], init=False)

    def take(self, sagas: Sagas, saga: SagaRecord, now: int, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        """Put the saga among `sagas`, as `claimed` and with its errors. Returns the claim, held from now on."""
        saga = claimed(saga, self.owner, states=states)
        claim = Claim(saga, saga.summary.fence, now)
        sagas[saga.summary.saga_id] = saga
        self._claims[saga.summary.saga_id, claim.fence] = claim
        return claim

    def record(self, sagas: Sagas, write: Write, now: int) -> int:
        """Do what `Storage.record` does. Raises `SagaNotFound`; `StaleFence`, after which the claim is lost."""
        try:
            saga = written(known(sagas, write.saga_id), write, now)
        except StaleFence:
            self._forget(write.saga_id, write.fence, lost=True)
            raise
        sagas[write.saga_id] = saga
        if write.frees:
            self._forget(write.saga_id, write.fence)
        return saga.entries[-1].at

    def release(self, sagas: Sagas, claim: Claim, now: int, wait: float = 0.0) -> None:
        """Do what `Storage.release` does."""
        saga_id = claim.record.summary.saga_id
        if saga_id in sagas:
            sagas[saga_id] = given_back(sagas[saga_id], claim.fence, now, wait)
        self._forget(saga_id, claim.fence)

    def confirm(self, claim: Claim) -> None:
        """Return if this claim is held. Raises `StaleFence` if not."""
        saga_id = claim.record.summary.saga_id
        if claim.lost or self._claims.get((saga_id, claim.fence)) is not claim:
            raise StaleFence(saga_id, claim.fence)

    def defer(self, work: Write | Claim) -> None:
        """Leave a write, or the release of a claim, to `catch_up`."""
        self._deferred.append(work)

    def catch_up(self, sagas: Sagas, now: int) -> None:
        """Do what was deferred. It is remembered until it is found to be done, or to be no longer eligible.

        So nothing is forgotten when the transaction fails; to do it twice does no harm.
        """
        for _ in range(len(self._deferred)):
            work = self._deferred.popleft()
            saga_id = work.record.summary.saga_id if isinstance(work, Claim) else work.saga_id
            before = sagas.get(saga_id)
            with suppress(StaleFence, SagaNotFound):
                self.release(sagas, work, now) if isinstance(work, Claim) else self.record(sagas, work, now)
            if sagas.get(saga_id) != before:
                self._deferred.append(work)

    def lose_all(self) -> None:
        """Lose every claim, because the incarnation ends, and defer their release."""
        for key in list(self._claims):
            claim = self._forget(*key, lost=True)
            if claim is not None:
                self.defer(claim)

    def _forget(self, saga_id: str, fence: int, *, lost: bool = False) -> Claim | None:
        claim = self._claims.pop((saga_id, fence), None)
        if claim is not None and lost:
            claim.lose()
        return claim
