"""Laws of `find`."""

from __future__ import annotations

from typing import Any

import pytest

from anysaga._errors import InvalidArgument
from anysaga._records import EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, write


class ReadingLaws(StorageHarness):
    """`find` lists summaries in the order of ids."""

    async def test_find_lists_what_load_reads(self, storage: Storage) -> None:
        """A summary in the list is the one in the record."""
        await created(storage)
        assert await storage.find() == [(await storage.load("saga-1")).summary]

    async def test_find_is_in_the_order_of_ids(self, storage: Storage) -> None:
        """Ids are ordered by their characters, upper case before lower."""
        for saga_id in ("b", "a", "B", "10", "9", "é"):
            await created(storage, saga_id)
        assert [summary.saga_id for summary in await storage.find()] == ["10", "9", "B", "a", "b", "é"]

    async def test_find_pages_without_gap_or_repetition(self, storage: Storage) -> None:
        """`limit` cuts, and `after` goes on behind the last id, with and without filters."""
        expected = [f"saga-{number:02}" for number in range(11)]
        for saga_id in reversed(expected):
            await created(storage, saga_id)
        for names, states in (([], []), (["order", "x"], []), ([], list(SagaState))):
            found: list[str] = []
            while page := await storage.find(names=names, states=states, limit=4, after=found[-1] if found else ""):
                assert len(page) <= 4
                found += [summary.saga_id for summary in page]
            assert found == expected

    async def test_find_takes_states_by_their_names_and_refuses_what_is_no_list(self, storage: Storage) -> None:
        """One text in the place of a list would be taken for its letters, and nothing be found."""
        await created(storage, "a")
        by_name: Any = ["RUNNING"]
        assert [summary.saga_id for summary in await storage.find(states=by_name)] == ["a"]
        wrong: list[dict[str, Any]] = [{"states": "RUNNING"}, {"states": ["DONE"]}, {"states": 1}, {"names": "order"}]
        for options in wrong:
            with pytest.raises(InvalidArgument, match="give a list of"):
                await storage.find(**options)

    async def test_find_by_name_and_state(self, storage: Storage) -> None:
        """Names and states narrow the list, each alone and together; several of a kind widen it."""
        await created(storage, "a", name="order")
        await created(storage, "b", name="refund")
        done = await created(storage, "c", name="order")
        await storage.record(write(done, entry(2, EntryKind.COMPLETED), state=SagaState.COMPLETED))

        async def found(names: list[str], states: list[SagaState]) -> list[str]:
            return [summary.saga_id for summary in await storage.find(names=names, states=states)]

        running, completed = SagaState.RUNNING, SagaState.COMPLETED
        assert await found(["order"], []) == ["a", "c"]
        assert await found([], [running]) == ["a", "b"]
        assert await found(["order"], [completed]) == ["c"]
        assert await found(["refund", "order"], [completed, running]) == ["a", "b", "c"]
        assert await found(["invoice"], []) == []
        assert await found([], [SagaState.PARKED]) == []
