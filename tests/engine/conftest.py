"""What the tests of the engine share: both stores, and a saga that writes down what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anysaga import MemoryStorage, SQLAlchemyStorage
from anysaga.abc import Storage


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """A fresh store of each kind."""
    made: Storage = MemoryStorage() if request.param == "memory" else SQLAlchemyStorage(tmp_path / "sagas.db")
    async with made:
        yield made
