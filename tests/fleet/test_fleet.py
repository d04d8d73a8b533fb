"""Worker processes that are paused, continued and killed: each saga ends once, and nothing is done twice (I0 to I4)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
import sqlalchemy as sa
from fleet_ledger import Ledger, problems
from fleet_worker import STEPS, Order, OrderSaga

import anysaga
from anysaga import SQLAlchemyStorage, StorageUnavailable
from anysaga._records import LIVE_STATES, EntryKind, SagaRecord
from anysaga.storages.sql._tables import Tables

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "waitid"), reason="this system cannot tell that a process is paused"),
]

ROUNDS = 20
SECONDS = float(os.environ.get("ANYSAGA_CHAOS_SECONDS", "15"))  # on each loop: half a minute for each store
LEASE = 0.7
_WORKER = Path(__file__).with_name("fleet_worker.py")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}


class Fleet:
    """Worker processes on one store, and what the test needs to know of them."""

    def __init__(self, address: str, prefix: str, folder: Path, backend: str) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.workers: list[subprocess.Popen[bytes]] = []
        self._address = address
        self._arguments = [address, prefix, str(folder), str(LEASE), backend]
        # With the usual lease, not that of the workers: who only looks on is given the time that a busy machine takes.
        self.storage = SQLAlchemyStorage(address, table_prefix=prefix)

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        worker = subprocess.Popen([sys.executable, str(_WORKER), *self._arguments], env=_ENVIRONMENT)
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a power cut would."""
        worker.send_signal(signal.SIGCONT)
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def stop(self) -> None:
        """End all workers."""
        for worker in list(self.workers):
            self.kill(worker)

    async def submit(self, saga_id: str, **options: object) -> None:
        """Leave one more saga to the workers; again where a slow disk kept the store busy: the id makes it one saga."""
        order = Order(str(self.folder), **options)  # type: ignore[arg-type]
        with anyio.fail_after(60):
            while True:
                with suppress(StorageUnavailable):
                    await OrderSaga(storage=self.storage).submit(order, saga_id=saga_id)
                    return

    async def pause(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker where it stands; but not in a write to SQLite, whose lock no one can take from it."""
        while True:
            assert worker.poll() is None, "a worker ended by itself"
            worker.send_signal(signal.SIGSTOP)
            await anyio.to_thread.run_sync(_stands, worker.pid)
            if await anyio.to_thread.run_sync(self._can_be_written):
                return
            worker.send_signal(signal.SIGCONT)
            await anyio.sleep(0.01)

    def _can_be_written(self) -> bool:
        if not self._address.startswith("sqlite"):
            return True
        with closing(sqlite3.connect(self.folder / "orders.db", timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that other processes do."""
        with anyio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - no event comes from there
                await anyio.sleep(0.01)

    async def ends(self) -> dict[str, str]:
        """Wait until all sagas have ended; how each of them did."""
        with anyio.fail_after(90):
            while await self.storage.find(states=LIVE_STATES, limit=1):  # noqa: ASYNC110 - as above
                await anyio.sleep(0.05)
        return {summary.saga_id: str(summary.state) for summary in await self.storage.find(limit=10_000)}


def _stands(pid: int) -> None:
    """Wait until the signal has arrived: a process that still runs may take the lock a moment later."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@contextmanager
def _store(kind: str, folder: Path, require_service: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'orders.db'}", "anysaga_"
        return
    address, prefix = require_service(kind), f"fleet_{uuid4().hex[:8]}_"
    yield address, prefix
    engine = sa.create_engine(address.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        Tables(prefix).metadata.drop_all(connection)


@pytest.fixture(params=["sqlite", "postgres"])
def fleet(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    require_service: Callable[[str], str],
    anyio_backend_name: str,
) -> Iterator[Fleet]:
    with _store(request.param, tmp_path, require_service) as (address, prefix):
        fleet = Fleet(address, prefix, tmp_path, anyio_backend_name)
        try:
            yield fleet
        finally:
            fleet.stop()


async def test_a_worker_that_was_paused_beyond_its_lease_is_refused(fleet: Fleet, anyio_backend_name: str) -> None:
    """I3: another one takes over; the first, continued, changes nothing of the saga and undoes nothing."""
    async with fleet.storage as storage:
        for _ in range(2):
            fleet.start()
        for number in range(ROUNDS if anyio_backend_name == "asyncio" else 3):
            await _round(fleet, storage, f"saga-{number:02}")
        ends = await fleet.ends()
        assert set(ends.values()) == {"COMPLETED"}
        assert problems(fleet.ledger.calls(), ends, STEPS) == []
        assert not [call for call in fleet.ledger.calls() if call.verb == "undo"]


async def _round(fleet: Fleet, storage: SQLAlchemyStorage, saga_id: str) -> None:
    await fleet.submit(saga_id, holds=True)
    paused = await _holder(fleet, saga_id, fence=0)
    await fleet.pause(paused)
    try:
        await _holder(fleet, saga_id, fence=(await storage.load(saga_id)).summary.fence)
        (fleet.folder / f"{saga_id}.go").touch()
        await fleet.until(lambda: _acts(fleet, saga_id) == len(STEPS))
        record = await _ended(storage, saga_id)
    finally:
        paused.send_signal(signal.SIGCONT)
    await fleet.until(lambda: f"saga {saga_id} is somebody else's now" in _log(fleet, paused))
    assert await storage.load(saga_id) == record


async def _holder(fleet: Fleet, saga_id: str, *, fence: int) -> subprocess.Popen[bytes]:
    """The worker that acts in this saga with a fence above this one."""
    found: list[subprocess.Popen[bytes]] = []

    def look() -> bool:
        for file in fleet.folder.glob(f"{saga_id}.*.*"):
            _, its_fence, pid = file.name.split(".")
            found[:] = [worker for worker in fleet.workers if worker.pid == int(pid) and int(its_fence) > fence]
            if found:
                return True
        return False

    await fleet.until(look)
    return found[0]


async def _ended(storage: SQLAlchemyStorage, saga_id: str) -> SagaRecord:
    with anyio.fail_after(60):
        while not (record := await storage.load(saga_id)).summary.state.is_end:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
    return record


def _acts(fleet: Fleet, saga_id: str) -> int:
    return sum(call.saga_id == saga_id and call.verb == "act" for call in fleet.ledger.calls())


def _log(fleet: Fleet, worker: subprocess.Popen[bytes]) -> str:
    return (fleet.folder / f"log.{worker.pid}").read_text()


async def test_chaos_loses_and_doubles_nothing(fleet: Fleet, anyio_backend_name: str) -> None:
    """I0 to I4: three workers, killed, paused and continued at random while sagas come in; then it is calm."""
    chance = random.Random(f"{anyio_backend_name} {SECONDS}")  # noqa: S311 - chaos that can be repeated
    async with fleet.storage as storage:
        for _ in range(3):
            fleet.start()
        over, number = time.monotonic() + SECONDS, 0
        while time.monotonic() < over:
            for _ in range(chance.randint(1, 6)):
                await fleet.submit(f"saga-{number:04}", pause=chance.random() / 20, refused=chance.random() < 0.3)
                number += 1
            await _harm(fleet, chance)
        for worker in fleet.workers:
            worker.send_signal(signal.SIGCONT)
        ends = await fleet.ends()
        assert len(ends) == number
        assert set(ends.values()) == {"COMPLETED", "COMPENSATED"}
        assert problems(fleet.ledger.calls(), ends, STEPS) == []
        for saga_id, end in ends.items():
            _check_log(await storage.load(saga_id), end)


async def _harm(fleet: Fleet, chance: random.Random) -> None:
    worker = chance.choice(fleet.workers)
    what = chance.choice(["kill", "pause", "continue", "nothing"])
    if what == "kill":
        fleet.kill(worker)
        fleet.start()
    elif what == "pause":
        await fleet.pause(worker)
    else:
        for each in fleet.workers:
            each.send_signal(signal.SIGCONT)
    await anyio.sleep(chance.random() * LEASE / (3 if what == "nothing" else 1))


def _check_log(record: SagaRecord, end: str) -> None:
    """I3: fences never decrease, there is one end, and it is the last word."""
    fences = [entry.fence for entry in record.entries]
    assert fences == sorted(fences)
    ends = [entry.kind for entry in record.entries if entry.kind in (EntryKind.COMPLETED, EntryKind.COMPENSATED)]
    assert [str(kind) for kind in ends] == [end]
    assert record.entries[-1].kind is ends[0]
