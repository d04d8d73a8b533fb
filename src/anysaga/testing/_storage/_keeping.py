"""Laws of `create` and `load`: what is kept is what was given."""

from __future__ import annotations

import attrs
import pytest

from anysaga._errors import SagaNotFound
from anysaga._limits import MAX_CONTEXT_BYTES, MAX_ERROR_BYTES, MAX_NAME, MAX_SAGA_ID, MAX_VERSION
from anysaga._records import Entry, EntryKind, Outcome, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import created, entry, new_saga, write

ODD_IDS = [
    "order 17",
    "Ünïcødé/☃/\U0001f600",
    "a'b\"c`d;--",
    "100%_\\",
    "tab\there",
    "x" * MAX_SAGA_ID,
    "9f1c2e5a-7c43-4a3e-9a57-0d6f2f6c1b11",
]


class KeepingLaws:
    """A saga is kept as it was given."""

    async def test_a_created_saga_is_owned_with_fence_1_and_one_claim(self, storage: Storage) -> None:
        """`create` returns a claim of fence 1; `claims` is 1, seq that of the last entry, the state as given."""
        claim = await created(storage, entries=(entry(1), entry(2, EntryKind.NOTE)))
        summary = claim.record.summary
        assert (claim.fence, summary.fence, summary.claims, summary.seq) == (1, 1, 1, 2)
        assert (summary.state, summary.name, summary.version) == (SagaState.RUNNING, "order", 1)
        assert summary.owner is not None
        assert not claim.lost

    async def test_a_claim_carries_what_load_reads(self, storage: Storage) -> None:
        """The record in a new claim is the one that `load` reads."""
        claim = await created(storage)
        assert await storage.load("saga-1") == claim.record

    async def test_a_saga_may_begin_without_entries(self, storage: Storage) -> None:
        """Without entries the seq is 0, and the first write begins with 1."""
        claim = await created(storage, state=SagaState.PENDING, entries=())
        assert (claim.record.summary.seq, claim.record.entries) == (0, ())
        await storage.record(write(claim, entry(1)))
        assert (await storage.load("saga-1")).summary.seq == 1

    async def test_the_same_id_is_created_once(self, storage: Storage, other: Storage) -> None:
        """A second `create` returns None and changes nothing, for every incarnation and in every state."""
        claim = await created(storage)
        kept = await storage.load("saga-1")
        assert await storage.create(new_saga(context="{}", name="refund")) is None
        assert await other.create(new_saga()) is None
        assert await storage.load("saga-1") == kept
        await storage.record(write(claim, entry(2, EntryKind.COMPLETED), state=SagaState.COMPLETED))
        assert await other.create(new_saga()) is None

    async def test_every_field_comes_back(self, storage: Storage) -> None:
        """`load` returns equal entries and contexts, texts of any language included; only `at` is the store's."""
        text = '{"name": "Ünïcødé ☃ \U0001f600 \'quoted\' %s {x} \\\\n"}'
        entries = (
            entry(1, path="0/fallback", context=text, duration=0.125),
            entry(2, EntryKind.DONE, response=text, attempt=3, duration=1e-7),
            entry(3, EntryKind.NOT_DONE, error=text, wait=0.1),
            entry(4, EntryKind.UNKNOWN, error="", wait=0.0, caught="0/primary"),
            entry(5, EntryKind.PROBED, outcome=Outcome.NOT_DONE),
            entry(6, EntryKind.BACK, path=""),
        )
        claim = await created(storage, context=text, outline=text, digest="é", entries=entries[:1])
        moment = await storage.record(write(claim, *entries[1:]))
        record = await storage.load("saga-1")
        assert (record.context, record.outline, record.digest) == (text, text, "é")
        assert [each.at for each in record.entries[1:]] == [moment] * 5
        given = (entries[0], *write(claim, *entries[1:]).entries)
        assert [_without_moment(each) for each in record.entries] == [_without_moment(each) for each in given]

    async def test_what_a_saga_is_comes_back(self, storage: Storage) -> None:
        """Name, version and state are those given, up to the longest name and the greatest version."""
        given = ("Ü" * MAX_NAME, MAX_VERSION, SagaState.PENDING)
        await created(storage, name=given[0], version=given[1], state=given[2])
        summary = (await storage.load("saga-1")).summary
        assert (summary.name, summary.version, summary.state) == given

    async def test_the_largest_texts_are_kept(self, storage: Storage) -> None:
        """Contexts, responses, errors and paths of the greatest size allowed fit."""
        text = '"' + "é" * (MAX_CONTEXT_BYTES // 2 - 1) + '"'
        error, path = "é" * (MAX_ERROR_BYTES // 2), "1000" + "/fallback" * 8
        claim = await created(storage, context=text)
        done = entry(2, EntryKind.DONE, path=path, context=text, response=text, error=error)
        await storage.record(write(claim, done))
        record = await storage.load("saga-1")
        assert (record.context, *map(_without_moment, record.entries[1:])) == (text, done)

    @pytest.mark.parametrize("saga_id", ODD_IDS)
    async def test_ids_with_odd_characters_are_ids(self, storage: Storage, other: Storage, saga_id: str) -> None:
        """An id is text and nothing else, up to its greatest length."""
        claim = await created(storage, saga_id)
        await storage.record(write(claim, entry(2, EntryKind.DONE), release=True))
        assert (await other.claim(saga_id)).record.summary.saga_id == saga_id
        assert [summary.saga_id for summary in await other.find()] == [saga_id]

    async def test_ids_that_differ_in_case_are_two_sagas(self, storage: Storage) -> None:
        """Ids are compared exactly: neither case, nor accents, nor spaces at the end are the same."""
        for saga_id in ("a", "A", "á", "a "):
            await created(storage, saga_id)
        assert {summary.saga_id for summary in await storage.find()} == {"a", "A", "á", "a "}

    async def test_the_deadline_counts_from_the_creation(self, storage: Storage) -> None:
        """The deadline is the moment of creation + `timeout`, or None without one."""
        timed = (await created(storage, "timed", timeout=1.5)).record.summary
        assert timed.deadline == timed.created_at + 1_500_000
        assert (await created(storage, "endless")).record.summary.deadline is None

    async def test_moments_do_not_go_back(self, storage: Storage) -> None:
        """Created, updated and the moment of a write are in order; a claim says what time it is."""
        claim = await created(storage)
        moment = await storage.record(write(claim, entry(2, EntryKind.DONE)))
        summary = (await storage.load("saga-1")).summary
        assert summary.created_at <= claim.now <= moment == summary.updated_at

    async def test_an_unknown_saga_is_not_found(self, storage: Storage) -> None:
        """`load`, `claim` and `record` raise `SagaNotFound` for an id that was never created."""
        claim = await created(storage)
        with pytest.raises(SagaNotFound):
            await storage.load("nobody")
        with pytest.raises(SagaNotFound):
            await storage.claim("nobody")
        with pytest.raises(SagaNotFound):
            await storage.record(write(claim, entry(2), saga_id="nobody"))


def _without_moment(each: Entry) -> Entry:
    return attrs.evolve(each, at=0)
