"""I14: data is never code. What the store names is looked up among what the code declares, and nowhere else."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from anysaga import EventMap, Retry, Saga, SQLAlchemyStorage, Step, current_step, recover
from anysaga.abc import LIVE_STATES
from anysaga.events import EventRelay

pytestmark = pytest.mark.anyio

MODULE = "a_module_that_the_store_names"
NAME = f"{MODULE}.Boom"
TEXTS = [
    ("sagas", "name"),
    ("starts", "outline"),
    ("starts", "context"),
    ("entries", "kind"),
    ("entries", "path"),
    ("entries", "context"),
    ("entries", "response"),
    ("entries", "outcome"),
    ("entries", "caught"),
    ("outbox", "type"),
    ("outbox", "data"),
    ("outbox", "destination"),
]
FORMS: list[Callable[[str], str]] = [
    lambda name: name,
    lambda name: f'{{"{name}":{{}}}}',
    lambda name: f'{{"by":{{"{name}":{{}}}},"how":"{name}"}}',
    lambda name: f'{{"py/object":"{name}","__class__":"{name}"}}',
]


class How(Enum):
    FAST = "fast"


@define
class Card:
    number: str = "4111"


@define
class Cash:
    euros: int = 8


@define
class Order:
    by: Card | Cash
    how: How = How.FAST


class Pay(Step[Order, Card | Cash]):
    async def act(self, order: Order) -> Card | Cash:
        current_step().record(order)
        return order.by

    async def compensate(self, order: Order) -> None:
        """Nothing to undo."""


class Ship(Pay):
    """The second step."""


class OrderSaga(Saga[Order]):
    steps = (Pay, Ship)


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of this name is there, and could be imported."""
    (tmp_path / f"{MODULE}.py").write_text("class Boom: ...\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("form", FORMS, ids=["bare", "tag", "fields", "marks"])
async def test_no_name_in_the_store_is_imported(tmp_path: Path, form: Callable[[str], str]) -> None:
    """Whichever text names a class: sagas are recovered or parked, events arrive or do not, and it is never loaded."""
    arrived: list[Any] = []
    file, events = tmp_path / "orders.db", EventMap(publish=False).bind(Order, _into(arrived))
    async with SQLAlchemyStorage(file) as storage:
        saga = OrderSaga(storage=storage, events=events)
        for number in range(len(TEXTS)):
            async with saga.transaction(Order(Card()), saga_id=f"order-{number}") as transaction:
                await anext(transaction)
                await transaction.suspend()
        with closing(sqlite3.connect(file)) as connection, connection:
            for number, (table, column) in enumerate(TEXTS):
                key = "id" if table == "sagas" else "saga_id"
                change = f"UPDATE anysaga_{table} SET {column} = ? WHERE {key} = ?"  # noqa: S608 - names of ours
                assert connection.execute(change, [form(NAME), f"order-{number}"]).rowcount
        await recover([saga], storage=storage)
        await EventRelay(storage, events=events, retry=Retry(attempts=1)).deliver_due()
        assert [left.saga_id for left in await storage.find(states=LIVE_STATES)] == ["order-0"]  # somebody else's now
        assert len(arrived) >= sum(table != "outbox" for table, _ in TEXTS)
    assert MODULE not in sys.modules


def _into(arrived: list[Any]) -> Callable[[Order], Any]:
    async def handle(order: Order) -> None:
        arrived.append(order)

    return handle
