"""A process that is paused inside a write transaction holds up nobody: the server ends its transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from server_stores import Server

import anysaga
from anysaga._errors import SagaAlreadyRunning, SagaNotFound, StorageUnavailable
from anysaga._records import Claim, EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import entry, write

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot pause a process"),
]

LEASE = 2.0  # of the process that is paused: before, it must come so far also on a busy machine
_CHILD = Path(__file__).with_name("paused_writer.py")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(anysaga.__file__).parent.parent)}


async def test_a_saga_whose_owner_stopped_in_a_transaction_is_taken_over(server: Server, tables: None) -> None:
    address = server.url.render_as_string(hide_password=False)
    command = [sys.executable, str(_CHILD), address, server.prefix, str(LEASE)]
    with subprocess.Popen(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True) as child:  # noqa: ASYNC220
        try:
            _, status = await anyio.to_thread.run_sync(os.waitpid, child.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            async with server.twin() as other:
                claim = await _taken_over(other)
                assert (claim.fence, claim.record.summary.seq) == (2, 1)
                child.send_signal(signal.SIGCONT)
                said, _ = await anyio.to_thread.run_sync(child.communicate)
                assert said.split() == ["StorageUnavailable", "StaleFence"]
                await other.record(write(claim, entry(2, EntryKind.DONE)))
        finally:
            child.kill()


async def _taken_over(storage: SQLAlchemyStorage) -> Claim:
    with anyio.fail_after(30):
        while True:
            try:
                return await storage.claim("saga-1")
            except (SagaAlreadyRunning, SagaNotFound, StorageUnavailable):
                await anyio.sleep(0.05)
