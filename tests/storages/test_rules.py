"""The laws of the contract as pure functions: a rule is given records, and gives records."""

from __future__ import annotations

import pytest
from attrs import evolve

from anysaga._errors import InvalidArgument, OperationRefused, SagaAlreadyRunning, SagaNotFound, StaleFence
from anysaga._records import LIVE_STATES, Claim, Entry, EntryKind, NewSaga, SagaRecord, SagaState, Write
from anysaga.storages import rules

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


def entry(seq: int, kind: EntryKind = EntryKind.STARTED) -> Entry:
    return Entry(kind, path="0", attempt=1, seq=seq, fence=1)


def new_saga(saga_id: str = "order-1", timeout: float | None = None, entries: tuple[Entry, ...] = ()) -> NewSaga:
    return NewSaga(saga_id, "order", 1, "[]", "digest", "{}", SagaState.RUNNING, timeout, entries or (entry(1),))


def write(*entries: Entry, state: SagaState = SagaState.RUNNING, wait: float = 0.0, release: bool = False) -> Write:
    return Write("order-1", 1, entries, state, wait, release)


def stored(saga_id: str, state: SagaState = SagaState.RUNNING, name: str = "order", at: int = NOW) -> SagaRecord:
    """A free saga that was written last, and is due since, the moment `at`."""
    saga = rules.begun(new_saga(saga_id), NOW)
    return evolve(saga, summary=evolve(saga.summary, state=state, name=name, updated_at=at, next_attempt_at=at))


def ids(sagas: list[SagaRecord]) -> list[str]:
    return [saga.summary.saga_id for saga in sagas]


@pytest.fixture
def free() -> SagaRecord:
    return rules.begun(new_saga(), NOW)


@pytest.fixture
def owned(free: SagaRecord) -> SagaRecord:
    return rules.claimed(free, "web-1")


def test_a_saga_begins_free_and_due() -> None:
    summary = rules.begun(new_saga(), NOW).summary
    assert (summary.owner, summary.fence, summary.claims, summary.next_attempt_at) == (None, 0, 0, NOW)


def test_a_saga_begins_with_its_entries_committed_now() -> None:
    saga = rules.begun(new_saga(entries=(entry(1), entry(2))), NOW)
    assert saga.summary.seq == 2
    assert [each.at for each in saga.entries] == [NOW, NOW]


def test_a_saga_without_entries_begins_at_seq_0() -> None:
    assert rules.begun(evolve(new_saga(), entries=()), NOW).summary.seq == 0


@pytest.mark.parametrize(("timeout", "deadline"), [(None, None), (2.5, NOW + 2_500_000)])
def test_a_deadline_counts_from_the_beginning(timeout: float | None, deadline: int | None) -> None:
    assert rules.begun(new_saga(timeout=timeout), NOW).summary.deadline == deadline


def test_known_finds_a_saga(free: SagaRecord) -> None:
    assert rules.known({"order-1": free}, "order-1") is free


def test_an_unknown_saga_is_not_found() -> None:
    with pytest.raises(SagaNotFound):
        rules.known({}, "order-1")


def test_a_claim_raises_fence_and_count(free: SagaRecord) -> None:
    summary = rules.claimed(free, "web-1").summary
    assert (summary.owner, summary.fence, summary.claims) == ("web-1", 1, 1)


def test_a_claim_leaves_what_it_was_given(free: SagaRecord) -> None:
    rules.claimed(free, "web-1")
    assert free == rules.begun(new_saga(), NOW)


@pytest.mark.parametrize("owner", ["web-1", "web-2"])
def test_an_owned_saga_is_not_claimed(owned: SagaRecord, owner: str) -> None:
    with pytest.raises(SagaAlreadyRunning, match="web-1"):
        rules.claimed(owned, owner)


def test_an_ended_saga_is_not_claimed() -> None:
    with pytest.raises(OperationRefused, match="COMPLETED"):
        rules.claimed(stored("order-1", SagaState.COMPLETED), "web-1")


def test_a_parked_saga_is_claimed_by_who_asks_for_one() -> None:
    saga = rules.claimed(stored("order-1", SagaState.PARKED), "web-1", states=frozenset({SagaState.PARKED}))
    assert saga.summary.owner == "web-1"


def test_the_death_of_an_owner_keeps_fence_and_count(owned: SagaRecord) -> None:
    assert rules.freed(owned).summary == evolve(owned.summary, owner=None)


def test_a_released_saga_is_free_and_costs_no_claim(owned: SagaRecord) -> None:
    summary = rules.given_back(owned, 1, NOW, wait=3.0).summary
    assert (summary.owner, summary.claims, summary.fence) == (None, 0, 1)
    assert summary.next_attempt_at == NOW + 3 * SECOND


def test_a_late_release_changes_nothing(owned: SagaRecord) -> None:
    other = rules.claimed(rules.freed(owned), "web-2")
    assert rules.given_back(other, 1, NOW) is other


def test_a_second_release_changes_nothing(owned: SagaRecord) -> None:
    released = rules.given_back(owned, 1, NOW)
    assert rules.given_back(released, 1, NOW + SECOND) is released


def test_a_write_appends_its_entries(owned: SagaRecord) -> None:
    saga = rules.written(owned, write(entry(2), entry(3)), NOW + SECOND)
    assert [(each.seq, each.at) for each in saga.entries] == [(1, NOW), (2, NOW + SECOND), (3, NOW + SECOND)]
    assert (saga.summary.seq, saga.summary.updated_at) == (3, NOW + SECOND)


def test_a_write_says_how_long_nobody_need_look(owned: SagaRecord) -> None:
    assert rules.written(owned, write(entry(2), wait=1.5), NOW).summary.next_attempt_at == NOW + 1_500_000


@pytest.mark.parametrize(("kind", "claims"), [(EntryKind.DONE, 0), (EntryKind.STARTED, 1)])
def test_an_outcome_sets_the_count_of_claims_back(owned: SagaRecord, kind: EntryKind, claims: int) -> None:
    assert rules.written(owned, write(entry(2, kind)), NOW).summary.claims == claims


def test_a_write_keeps_the_owner(owned: SagaRecord) -> None:
    assert rules.written(owned, write(entry(2)), NOW).summary.owner == "web-1"


@pytest.mark.parametrize("last", [write(entry(2), release=True), write(entry(2), state=SagaState.COMPLETED)], ids=str)
def test_a_write_that_frees_keeps_the_fence(owned: SagaRecord, last: Write) -> None:
    summary = rules.written(owned, last, NOW).summary
    assert (summary.owner, summary.fence, summary.state) == (None, 1, last.state)


def test_the_end_has_a_note(owned: SagaRecord) -> None:
    last = evolve(entry(2, EntryKind.PARKED), error="the bank is silent")
    assert rules.written(owned, write(last, state=SagaState.PARKED), NOW).summary.note == "the bank is silent"


@pytest.mark.parametrize("seq", [1, 3])
def test_a_seq_that_does_not_follow_is_refused(owned: SagaRecord, seq: int) -> None:
    with pytest.raises(StaleFence):
        rules.written(owned, write(entry(seq, EntryKind.NOTE)), NOW)


@pytest.mark.parametrize("fence", [0, 2])
def test_a_fence_that_is_not_current_is_refused(owned: SagaRecord, fence: int) -> None:
    with pytest.raises(StaleFence):
        rules.written(owned, evolve(write(entry(2)), fence=fence), NOW)


def test_the_same_write_twice_is_one(owned: SagaRecord) -> None:
    once = rules.written(owned, write(entry(2)), NOW)
    assert rules.written(once, write(entry(2)), NOW + SECOND) is once


def test_the_last_write_is_known_though_the_saga_has_another_owner(owned: SagaRecord) -> None:
    other = rules.claimed(rules.written(owned, write(entry(2), release=True), NOW), "web-2")
    assert rules.written(other, write(entry(2), release=True), NOW) is other


def test_another_write_of_the_same_seq_is_refused(owned: SagaRecord) -> None:
    once = rules.written(owned, write(entry(2)), NOW)
    with pytest.raises(StaleFence):
        rules.written(once, write(entry(2, EntryKind.NOTE)), NOW)


def test_entries_are_the_same_whenever_they_were_committed() -> None:
    assert rules.same_entries([entry(1).stamped(NOW)], [entry(1)])


@pytest.mark.parametrize("sent", [[], [entry(2)], [entry(1), entry(2)]], ids=len)
def test_entries_differ_in_number_or_content(sent: list[Entry]) -> None:
    assert not rules.same_entries([entry(1)], sent)


def test_the_longest_due_come_first() -> None:
    sagas = [stored("b"), stored("a"), stored("old", at=NOW - SECOND)]
    assert ids(rules.due(sagas, ["order"], NOW, 2)) == ["old", "a"]


@pytest.mark.parametrize("state", SagaState)
def test_only_live_sagas_are_due(state: SagaState) -> None:
    assert bool(rules.due([stored("a", state)], ["order"], NOW, 1)) is (state in LIVE_STATES)


def test_what_is_owned_or_later_or_of_another_name_is_not_due(owned: SagaRecord) -> None:
    sagas = [owned, stored("later", at=NOW + 1), stored("refund", name="refund")]
    assert rules.due(sagas, ["order"], NOW, 10) == []


def test_a_claim_in_vain_costs_a_saga_its_turn() -> None:
    saga = stored("a")
    tired = evolve(saga, summary=evolve(saga.summary, claims=2))
    (taken,) = rules.due([tired], ["order"], NOW, 1)
    assert taken.summary.next_attempt_at == NOW + rules.patience(3) > NOW


def test_patience_grows_to_a_minute() -> None:
    waits = [rules.patience(claims) / SECOND for claims in range(1, 11)]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_sagas_are_listed_by_id_after_one() -> None:
    listed = rules.listed([stored("c"), stored("a"), stored("d"), stored("b")], [], [], 2, after="a")
    assert [summary.saga_id for summary in listed] == ["b", "c"]


def test_sagas_are_listed_by_name_and_state() -> None:
    sagas = [stored("a"), stored("b", SagaState.PARKED), stored("c", SagaState.PARKED, name="refund")]
    listed = rules.listed(sagas, ["order"], [SagaState.PARKED], 10, after="")
    assert [summary.saga_id for summary in listed] == ["b"]


def test_the_oldest_are_forgotten_first() -> None:
    sagas = [stored("b", SagaState.COMPLETED, at=2), stored("a", SagaState.COMPLETED, at=1)]
    assert rules.forgettable(sagas, 3, [SagaState.COMPLETED], 1) == ["a"]


def test_what_is_young_or_in_another_state_is_not_forgotten() -> None:
    sagas = [stored("a", SagaState.COMPLETED, at=3), stored("b", SagaState.ABANDONED, at=1)]
    assert rules.forgettable(sagas, 3, [SagaState.COMPLETED], 10) == []


@pytest.mark.parametrize("state", [*sorted(LIVE_STATES), SagaState.PARKED])
def test_what_is_needed_cannot_be_forgotten(state: SagaState) -> None:
    with pytest.raises(InvalidArgument):
        rules.forgettable([], NOW, [state], 1)


@pytest.fixture
def holder() -> rules.Holder:
    return rules.Holder("web-1")


@pytest.fixture
def sagas() -> dict[str, SagaRecord]:
    return {}


@pytest.fixture
def claim(holder: rules.Holder, sagas: dict[str, SagaRecord], free: SagaRecord) -> Claim:
    return holder.take(sagas, free, NOW)


def test_a_holder_keeps_what_it_takes(holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim) -> None:
    holder.confirm(claim)
    assert sagas == {"order-1": claim.record}
    assert (claim.record.summary.owner, claim.fence, claim.now) == ("web-1", 1, NOW)


def test_another_claim_of_the_same_fence_is_not_held(holder: rules.Holder, claim: Claim) -> None:
    with pytest.raises(StaleFence):
        holder.confirm(Claim(claim.record, claim.fence, NOW))


def test_what_was_given_back_is_not_held(holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim) -> None:
    holder.release(sagas, claim, NOW)
    with pytest.raises(StaleFence):
        holder.confirm(claim)
    assert (sagas["order-1"].summary.owner, claim.lost) == (None, False)


def test_a_saga_that_is_over_is_not_held(holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim) -> None:
    assert holder.record(sagas, write(entry(2), state=SagaState.COMPLETED), NOW + 1) == NOW + 1
    with pytest.raises(StaleFence):
        holder.confirm(claim)
    assert not claim.lost


def test_a_refused_write_loses_the_claim(holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim) -> None:
    rules.Holder("web-2").take(sagas, rules.freed(claim.record), NOW)
    with pytest.raises(StaleFence):
        holder.record(sagas, write(entry(2)), NOW)
    assert claim.lost


def test_a_release_of_a_forgotten_saga_is_nothing(holder: rules.Holder, claim: Claim) -> None:
    empty: dict[str, SagaRecord] = {}
    holder.release(empty, claim, NOW)
    assert empty == {}


def test_deferred_work_is_done(holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim) -> None:
    holder.defer(write(entry(2)))
    holder.defer(claim)
    holder.catch_up(sagas, NOW)
    assert (sagas["order-1"].summary.seq, sagas["order-1"].summary.owner) == (2, None)


def test_deferred_work_outlives_a_failed_transaction(
    holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim
) -> None:
    holder.defer(claim)
    holder.catch_up(dict(sagas), NOW)
    holder.catch_up(sagas, NOW)
    assert sagas["order-1"].summary.owner is None


def test_deferred_work_is_forgotten_once_it_is_done(
    holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim
) -> None:
    before = dict(sagas)
    holder.defer(claim)
    for _ in range(2):
        holder.catch_up(sagas, NOW)
    holder.catch_up(before, NOW)
    assert before["order-1"].summary.owner == "web-1"


def test_deferred_work_that_is_not_eligible_is_forgotten(
    holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim
) -> None:
    holder.defer(write(entry(7)))
    holder.catch_up(sagas, NOW)
    assert sagas == {"order-1": claim.record}


def test_who_ends_loses_every_claim_and_gives_them_back(
    holder: rules.Holder, sagas: dict[str, SagaRecord], claim: Claim
) -> None:
    holder.lose_all()
    holder.catch_up(sagas, NOW)
    assert (claim.lost, sagas["order-1"].summary.owner) == (True, None)
