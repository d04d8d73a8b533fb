"""A storage by the contract in `anysaga.abc`: a JSON file, and a lock for each owner that ends with its process."""

import fcntl
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from folder_sagas import Sagas, begun, claimable, due, found, get, given_back, locked_sagas, over, taken, written

from anysaga import AnysagaError, StaleFence, StorageClosed, StorageUnavailable
from anysaga.abc import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaState, SagaSummary, Storage, Write


class FolderStorage(Storage):
    def __init__(self, folder: Path) -> None:
        self.folder, self.claims, self.deferred = folder, dict[str, Claim](), deque[Write | Claim]()
        folder.mkdir(exist_ok=True)
        self.be_born()

    def be_born(self) -> None:
        self.owner = f"{uuid.uuid4().hex}.owner"
        self.life = (self.folder / self.owner).open("w")
        fcntl.flock(self.life, fcntl.LOCK_EX)

    async def open(self) -> None:
        with self._sagas():
            return

    async def create(self, new: NewSaga) -> Claim | None:
        with self._sagas() as (sagas, now):
            return None if new.saga_id in sagas else self._take(sagas, begun(new, now), now)

    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        with self._sagas() as (sagas, now):
            return self._take(sagas, claimable(get(sagas, saga_id), states), now)

    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        with self._sagas() as (sagas, now):
            return [self._take(sagas, saga, now) for saga in due(sagas, set(names), now)[:limit]]

    async def record(self, write: Write) -> int:
        with self._sagas() as (sagas, now):
            return self._write(sagas, write, now)

    async def confirm(self, claim: Claim) -> None:
        if self.claims.get(claim.record.summary.saga_id) is not claim:
            raise StaleFence(claim.record.summary.saga_id, claim.fence)

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        with self._sagas() as (sagas, now):
            self._give_back(sagas, claim, now + round(wait * 1e6))

    def defer(self, work: Write | Claim) -> None:
        self.deferred.append(work)  # done before the next verb, whatever that is

    async def load(self, saga_id: str) -> SagaRecord:
        with self._sagas() as (sagas, _):
            return get(sagas, saga_id)

    async def find(
        self, *, names: Iterable[str] = (), states: Iterable[SagaState] = (), limit: int = 100, after: str = ""
    ) -> list[SagaSummary]:
        with self._sagas() as (sagas, _):
            return found(sagas, set(names), set(states), after)[:limit]

    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        with self._sagas() as (sagas, _):
            return len([sagas.pop(saga_id) for saga_id in over(sagas, set(states), before)[:limit]])

    async def aclose(self) -> None:
        for claim in list(self.claims.values()):
            await self.release(claim)
        self.life.close()

    @contextmanager
    def _sagas(self) -> Iterator[tuple[Sagas, int]]:
        if self.life.closed:
            raise StorageClosed(str(self.folder))
        try:
            if self.deferred:
                with locked_sagas(self.folder) as sagas:
                    self._catch_up(sagas, time.time_ns() // 1000)
            with locked_sagas(self.folder) as sagas:
                yield sagas, time.time_ns() // 1000
        except OSError as error:
            raise StorageUnavailable(str(self.folder), str(error)) from error

    def _catch_up(self, sagas: Sagas, now: int) -> None:
        while self.deferred:
            work = self.deferred.popleft()
            with suppress(AnysagaError):
                self._write(sagas, work, now) if isinstance(work, Write) else self._give_back(sagas, work, now)

    def _take(self, sagas: Sagas, saga: SagaRecord, now: int) -> Claim:
        saga = taken(saga, self.owner)
        sagas[saga.summary.saga_id] = saga
        claim = self.claims[saga.summary.saga_id] = Claim(saga, saga.summary.fence, now)
        return claim

    def _write(self, sagas: Sagas, write: Write, now: int) -> int:
        try:
            saga = sagas[write.saga_id] = written(get(sagas, write.saga_id), write, now)
        except StaleFence:
            self._forget(write.saga_id, write.fence)
            raise
        if write.frees:
            self._forget(write.saga_id, write.fence)
        return saga.entries[-1].at

    def _give_back(self, sagas: Sagas, claim: Claim, due_at: int) -> None:
        saga_id = claim.record.summary.saga_id
        sagas[saga_id] = given_back(get(sagas, saga_id), claim, due_at)
        self._forget(saga_id, claim.fence)

    def _forget(self, saga_id: str, fence: int) -> None:
        if saga_id in self.claims and self.claims[saga_id].fence == fence:
            self.claims.pop(saga_id).lose()
