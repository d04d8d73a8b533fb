"""What a store's author provides, and the fixtures and samples that every law works with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from anysaga._records import Claim, Entry, EntryKind, NewSaga, SagaState, Write
from anysaga.abc import Storage


class StorageHarness:
    """The three things to override. `storage` and `other` are two incarnations on the same sagas."""

    pytestmark = pytest.mark.anyio

    def new_storage(self, directory: Path) -> Storage:
        """Make a store without any saga. `directory` is this test's own, for stores that need files."""
        raise NotImplementedError

    def twin(self, storage: Any) -> Storage:
        """Make another incarnation on the same sagas, as a second process would."""
        raise NotImplementedError

    async def die(self, storage: Any) -> None:
        """Declare this incarnation dead, as if its lease had run out and another had seen it; it need not notice."""
        raise NotImplementedError

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        async with self.new_storage(tmp_path) as storage:
            yield storage

    @pytest.fixture
    async def other(self, storage: Storage) -> AsyncIterator[Storage]:
        async with self.twin(storage) as other:
            yield other


def new_saga(saga_id: str = "saga-1", **changes: Any) -> NewSaga:
    """A saga that begins, with one intent in its log."""
    saga = NewSaga(
        saga_id=saga_id,
        name="order",
        version=1,
        outline='[["0", "reserve"], ["1", "charge"]]',
        digest="digest",
        context='{"total": "12.50"}',
        state=SagaState.RUNNING,
        entries=(entry(1),),
    )
    return attrs.evolve(saga, **changes)


def entry(seq: int, kind: EntryKind = EntryKind.STARTED, **changes: Any) -> Entry:
    """An entry of fence 1, unless told otherwise."""
    return attrs.evolve(Entry(kind, path="0", attempt=1, seq=seq, fence=1), **changes)


def write(claim: Claim, *entries: Entry, **changes: Any) -> Write:
    """A write by the holder of `claim`; the saga goes on running, unless told otherwise."""
    saga_id = claim.record.summary.saga_id
    own = tuple(attrs.evolve(each, fence=claim.fence) for each in entries)
    return attrs.evolve(Write(saga_id, claim.fence, own, SagaState.RUNNING), **changes)


async def created(storage: Storage, saga_id: str = "saga-1", **changes: Any) -> Claim:
    """Create a saga, which must not be there yet."""
    claim = await storage.create(new_saga(saga_id, **changes))
    assert claim is not None
    return claim


async def freed(storage: Storage, saga_id: str, **changes: Any) -> None:
    """Create a saga that nobody owns."""
    await storage.release(await created(storage, saga_id, **changes))


def ids(claims: list[Claim]) -> list[str]:
    """The saga ids of claims, in their order."""
    return [claim.record.summary.saga_id for claim in claims]
