"""An order kept in a storage of one's own: the contract of `anysaga.abc`, by the rules of `anysaga.storages.rules`.

You see the saga of `order.py` run on a JSON file, then the log in that file. Not for Windows, which has other locks.
"""

import fcntl
import os
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from cattrs.preconf.json import make_converter
from order import Order, OrderSaga

from anysaga import StorageClosed, StorageUnavailable
from anysaga.abc import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaState, SagaSummary, Storage, Write
from anysaga.storages import rules


class FolderStorage(Storage):
    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.json = folder, folder / "sagas.json", make_converter()
        folder.mkdir(exist_ok=True)
        self.me = rules.Holder(f"{uuid.uuid4().hex}.owner")
        self.life = (folder / self.me.owner).open("w")
        fcntl.flock(self.life, fcntl.LOCK_EX)  # until this process ends, however it ends

    async def open(self) -> None:
        await self.find(limit=0)

    async def create(self, new: NewSaga) -> Claim | None:
        with self._sagas() as (sagas, now):
            return None if new.saga_id in sagas else self.me.take(sagas, rules.begun(new, now), now)

    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        with self._sagas() as (sagas, now):
            return self.me.take(sagas, rules.known(sagas, saga_id), now, states=states)

    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        with self._sagas() as (sagas, now):
            return [self.me.take(sagas, saga, now) for saga in rules.due(sagas.values(), names, now, limit)]

    async def record(self, write: Write) -> int:
        with self._sagas() as (sagas, now):
            return self.me.record(sagas, write, now)

    async def confirm(self, claim: Claim) -> None:
        self.me.confirm(claim)

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        with self._sagas() as (sagas, now):
            self.me.release(sagas, claim, now, wait)

    def defer(self, work: Write | Claim) -> None:
        self.me.defer(work)

    async def load(self, saga_id: str) -> SagaRecord:
        with self._sagas() as (sagas, _):
            return rules.known(sagas, saga_id)

    async def find(
        self, *, names: Iterable[str] = (), states: Iterable[SagaState] = (), limit: int = 100, after: str = ""
    ) -> list[SagaSummary]:
        with self._sagas() as (sagas, _):
            return rules.listed(sagas.values(), names, states, limit, after)

    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        with self._sagas() as (sagas, _):
            return len([sagas.pop(one) for one in rules.forgettable(sagas.values(), before, states, limit)])

    async def aclose(self) -> None:
        self.me.lose_all()
        if not self.life.closed:
            with self.life, self._sagas():
                return

    @contextmanager
    def _sagas(self) -> Iterator[tuple[dict[str, SagaRecord], int]]:
        if self.life.closed:
            raise StorageClosed(str(self.folder))
        try:
            with (self.folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                stored = self.json.loads(self.file.read_text(), dict[str, SagaRecord]) if self.file.exists() else {}
                sagas = {saga_id: self._without_dead_owner(saga) for saga_id, saga in stored.items()}
                now = time.time_ns() // 1000
                self.me.catch_up(sagas, now)
                yield sagas, now
                if sagas != stored:
                    with (self.folder / "sagas.new").open("w") as page:
                        page.write(self.json.dumps(sagas))
                        page.flush()
                        os.fsync(page.fileno())
                    Path(page.name).replace(self.file)
        except OSError as error:
            raise StorageUnavailable(str(self.folder), str(error)) from error

    def _without_dead_owner(self, saga: SagaRecord) -> SagaRecord:
        with (self.folder / (saga.summary.owner or "nobody")).open("a") as life, suppress(BlockingIOError):
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return rules.freed(saga)
        return saga


async def main(folder: Path) -> None:
    async with FolderStorage(folder) as storage:
        result = await OrderSaga(storage=storage).run(Order(["tea"], "full"))
        print(f"{result.saga_id}: {result.state}, kept in {folder}")
        for entry in (await storage.load(result.saga_id)).entries:
            print(f"  {entry.seq} {entry.kind} {entry.path} {entry.response or ''}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, Path("orders").absolute(), backend=parser.parse_args().backend)
