"""The laws of what a store keeps."""

from __future__ import annotations

import pytest

from anysaga._records import (
    LIVE_STATES,
    OUTCOME_KINDS,
    Claim,
    Entry,
    EntryKind,
    SagaRecord,
    SagaState,
    SagaSummary,
    Write,
)

ENDS = {SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.PARKED, SagaState.ABANDONED}


def entry(seq: int, kind: EntryKind = EntryKind.NOTE, error: str | None = None) -> Entry:
    return Entry(kind, seq=seq, error=error)


def write(*entries: Entry, state: SagaState = SagaState.RUNNING, release: bool = False) -> Write:
    return Write("order-17", fence=1, entries=entries, state=state, release=release)


@pytest.fixture
def claim() -> Claim:
    summary = SagaSummary(
        saga_id="order-17",
        name="order",
        version=1,
        state=SagaState.RUNNING,
        fence=1,
        seq=0,
        owner="web-3",
        claims=1,
        created_at=0,
        updated_at=0,
        next_attempt_at=0,
    )
    return Claim(SagaRecord(summary, outline="[]", digest="", context="{}"), fence=1, now=0)


@pytest.mark.parametrize("state", SagaState)
def test_a_state_is_live_or_an_end(state: SagaState) -> None:
    """A saga is live, or at an end: COMPLETED, COMPENSATED, PARKED or ABANDONED."""
    assert state.is_end is (state in ENDS)
    assert state.is_end is not (state in LIVE_STATES)


@pytest.mark.parametrize("text", [*SagaState, *EntryKind], ids=repr)
def test_names_are_what_is_stored(text: SagaState | EntryKind) -> None:
    """States and kinds are stored as their names, and read back from them."""
    assert text == text.name == str(text)
    assert type(text)(str(text)) is text


def test_a_write_moves_seq_from_before_to_after() -> None:
    """A write fits after the seq before its first entry, and leaves that of its last."""
    assert (write(entry(4)).before, write(entry(4)).after) == (3, 4)
    assert (write(entry(4), entry(5), entry(6)).before, write(entry(4), entry(5), entry(6)).after) == (3, 6)


def test_the_first_write_of_a_saga_comes_after_nothing() -> None:
    """A saga without entries has seq 0."""
    assert write(entry(1)).before == 0


@pytest.mark.parametrize("state", SagaState)
def test_an_end_frees(state: SagaState) -> None:
    """A write gives the saga free if it ends it, or says so."""
    assert write(entry(1), state=state).frees is (state in ENDS)
    assert write(entry(1), state=state, release=True).frees


@pytest.mark.parametrize("kind", EntryKind)
def test_outcomes_settle(kind: EntryKind) -> None:
    """One outcome among its entries is enough for a write to show that the saga moved."""
    settles = kind in OUTCOME_KINDS

    assert write(entry(1, kind)).settles is settles
    assert write(entry(1, EntryKind.STARTED), entry(2, kind), entry(3)).settles is settles


@pytest.mark.parametrize("kind", [EntryKind.STARTED, EntryKind.CHECKPOINT, EntryKind.UNDO_STARTED, EntryKind.WITHDRAWN])
def test_an_intent_is_no_outcome(kind: EntryKind) -> None:
    """Beginning something, saving in the middle or taking it back shows no progress: poison does the same."""
    assert kind not in OUTCOME_KINDS


@pytest.mark.parametrize("state", SagaState)
def test_the_note_is_the_last_error_of_an_end(state: SagaState) -> None:
    """`find` shows the error text of the entry that ended or parked the saga; a live saga has none."""
    ended = write(entry(1, error="first"), entry(2, error="last"), state=state)

    assert ended.note == ("last" if state in ENDS else None)
    assert write(entry(1), state=state).note is None


def test_entries_are_values() -> None:
    """Two entries that say the same are equal: so a resent write is known again."""
    assert write(entry(1), entry(2)) == write(entry(1), entry(2))
    assert entry(1) != entry(2)


def test_a_lost_claim_tells_its_watcher_once(claim: Claim) -> None:
    """The watcher is called once, however often the claim is lost."""
    told: list[bool] = []
    claim.watch(lambda: told.append(claim.lost))

    assert told == []
    claim.lose()
    claim.lose()

    assert told == [True]


def test_a_late_watcher_is_told_at_once(claim: Claim) -> None:
    """Who begins to watch a claim that is lost already learns it there, once."""
    told: list[bool] = []
    claim.lose()
    claim.watch(lambda: told.append(claim.lost))
    claim.lose()

    assert told == [True]


def test_a_claim_may_have_no_watcher(claim: Claim) -> None:
    """A claim that nobody watches can be lost as well."""
    assert not claim.lost
    claim.lose()
    assert claim.lost


def test_claims_are_told_apart(claim: Claim) -> None:
    """A claim is a thing, not a value: two of them never are the same one."""
    assert claim != Claim(claim.record, claim.fence, claim.now)
