"""I5: an event is in the outbox exactly if its checkpoint committed, and arrives at least once, whoever is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from killed_relay import File, main

from anysaga import SQLAlchemyStorage
from anysaga.events import EventRelay

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).parent / "killed_relay.py"
EVENTS = [f"o{number}/1/act/1" for number in range(3)]


@pytest.mark.parametrize("dies", ["committed", "before", "after"])
async def test_events_arrive_though_the_process_is_killed_around_publishing(tmp_path: Path, dies: str) -> None:
    """Killed after the commit, before the broker got them, or after it did and before that was noted."""
    child = subprocess.run([sys.executable, CHILD, tmp_path, dies], check=False, timeout=60)  # noqa: ASYNC221
    assert child.returncode == -9
    arrived = tmp_path / "arrived"
    before = arrived.read_text().split() if arrived.exists() else []
    assert before == (EVENTS if dies == "after" else [])
    _forget_leases(tmp_path / "sagas.db")
    async with SQLAlchemyStorage(tmp_path / "sagas.db") as storage:
        relay = EventRelay(storage, publisher=File(arrived, "never"))
        await relay.deliver_due()
        assert (await relay.lag()).waiting == 0
    assert sorted(arrived.read_text().split()[len(before) :]) == EVENTS


async def test_a_process_that_lives_delivers_once(tmp_path: Path) -> None:
    await main(tmp_path, "never")
    assert (tmp_path / "arrived").read_text().split() == EVENTS


def _forget_leases(path: Path) -> None:
    """As if the time of the dead relay's leases were over."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE anysaga_outbox SET due_at = 0")
