"""What the entries of a log mean, one law at a time. What follows from them is in `test_decisions`."""

from __future__ import annotations

import pytest
from saga_logs import (
    PIVOT,
    PLAIN,
    PROBED,
    READ_ONLY,
    RETRIED,
    back,
    done,
    finished,
    folded,
    not_done,
    parked,
    probed,
    resolved,
    retried,
    saved,
    started,
    undo_failed,
    undo_started,
    undone,
    unknown,
    withdrawn,
)
from saga_play import START, facts

from anysaga._folding import apply
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind, Outcome, SagaState


def contexts(*log: Entry, fence: int = 1) -> tuple[str, str]:
    """Base and current after this log of a saga whose first step can be retried and asked."""
    progress = folded([PROBED, PLAIN, PLAIN], *log, fence=fence)
    return progress.base, progress.current


class TestBase:
    """C1: what an act starts from."""

    def test_at_first_it_is_the_initial_context(self) -> None:
        assert contexts(started()) == (START, START)

    def test_a_done_step_moves_it(self) -> None:
        assert contexts(started(), done(context="1")) == ("1", "1")

    def test_a_done_step_that_wrote_nothing_leaves_it(self) -> None:
        assert contexts(started(), done()) == (START, START)

    def test_a_checkpoint_moves_it(self) -> None:
        assert contexts(started(), saved("1", "half")) == ("half", "half")

    @pytest.mark.parametrize("end", [not_done(context="1"), unknown(context="1")], ids=["not done", "unknown"])
    def test_a_failed_attempt_leaves_it(self, end: Entry) -> None:
        assert contexts(started(), end)[0] == START

    def test_a_checkpoint_holds_for_the_next_attempt(self) -> None:
        assert contexts(started(), saved("1", "half"), unknown(context="1"))[0] == "half"

    def test_a_probe_that_says_done_takes_over_what_the_attempt_wrote(self) -> None:
        log = [started(), unknown(context="1"), probed(Outcome.DONE)]

        assert contexts(*log) == ("1", "1")

    def test_a_probe_that_says_done_of_a_lost_attempt_takes_over_what_is_durable(self) -> None:
        log = [started(), unknown(context="1"), started(attempt=2), probed(Outcome.DONE)]

        assert contexts(*log, fence=2) == (START, START)

    def test_a_probe_that_says_not_done_leaves_it(self) -> None:
        log = [started(), unknown(context="1"), probed(Outcome.NOT_DONE)]

        assert contexts(*log)[0] == START

    def test_an_undo_leaves_it(self) -> None:
        log = [started(), done(context="1"), back(), undo_started(), undone(context="undone")]

        assert contexts(*log)[0] == "1"


class TestCurrent:
    """C1: what an undo sees."""

    def test_it_is_what_the_failing_step_wrote(self) -> None:
        assert contexts(started(), unknown(context="1"), back())[1] == "1"

    def test_it_is_the_base_where_the_outcome_was_not_recorded(self) -> None:
        log = [started(), saved("1", "half"), back()]

        assert contexts(*log, fence=2)[1] == "half"

    def test_it_is_the_base_where_the_last_of_several_outcomes_was_not_recorded(self) -> None:
        log = [started(), unknown(context="1", wait=1.0), started(attempt=2), back()]

        assert contexts(*log, fence=2)[1] == START

    def test_it_is_that_of_the_last_recorded_outcome_where_the_next_attempt_was_withdrawn(self) -> None:
        log = [started(), unknown(context="1", wait=1.0), started(attempt=2), withdrawn(), back()]

        assert contexts(*log)[1] == "1"

    def test_it_is_the_base_where_a_lost_attempt_was_followed_by_a_withdrawn_one(self) -> None:
        log = [started(), unknown(context="1", wait=1.0), started(attempt=2), started(attempt=3, fence=2)]

        assert contexts(*log, withdrawn(), back(), fence=2)[1] == START

    def test_a_failure_that_wrote_nothing_starts_again_from_the_base(self) -> None:
        log = [started(), unknown(context="1", wait=1.0), started(attempt=2), unknown(), back()]

        assert contexts(*log)[1] == START

    def test_what_an_undo_wrote_is_seen_by_the_next(self) -> None:
        log = [*finished("1"), *finished("2"), back(), undo_started("2"), undone("2", context="undone")]

        assert contexts(*log)[1] == "undone"

    @pytest.mark.parametrize("end", [[undo_failed()], []], ids=["failed", "lost"])
    def test_a_repeated_undo_starts_where_the_first_attempt_did(self, end: list[Entry]) -> None:
        log = [*finished("1", context="1"), back(), undo_started(), *end]

        assert contexts(*log, fence=2)[1] == "1"


class TestDone:
    """Which steps are done."""

    def test_it_is_counted_from_the_first(self) -> None:
        assert [folded([PLAIN, PLAIN], *log).position for log in ([], finished("1"))] == [0, 1]

    def test_its_response_and_duration_are_kept(self) -> None:
        entry = Entry(EntryKind.DONE, "1", response="17", duration=0.5)
        step = folded([PLAIN], started(), entry).of("1")

        assert (step.response, step.duration, step.outcome) == ("17", 0.5, Outcome.DONE)

    def test_a_pivot_that_is_done_is_remembered(self) -> None:
        assert folded([PIVOT, RETRIED], *finished("1")).pivot == "a"

    def test_a_plain_step_is_no_pivot(self) -> None:
        assert folded([PLAIN, PLAIN], *finished("1")).pivot is None


class TestAttempts:
    """A3: attempts are STARTED entries that were not withdrawn, however they ended."""

    def test_each_intent_counts(self) -> None:
        assert folded([RETRIED], started(), unknown(), started(attempt=2)).of("1").attempts == 2

    def test_a_withdrawn_intent_does_not(self) -> None:
        assert folded([RETRIED], started(), unknown(), started(attempt=2), withdrawn()).of("1").attempts == 1

    def test_a_withdrawn_intent_to_undo_does_not(self) -> None:
        step = folded([PLAIN], *finished("1"), back(), undo_started(), withdrawn()).of("1")

        assert (step.undo_attempts, step.undo_intent, step.attempts) == (0, 0, 1)

    def test_a_person_does_not_set_them_back(self) -> None:
        assert folded([PIVOT], started(), unknown(), parked(), retried()).of("1").attempts == 1


class TestLost:
    """An intent without an outcome, whose owner is gone."""

    @pytest.mark.parametrize(("fence", "lost"), [(1, False), (2, True), (9, True)])
    def test_it_is_told_apart_by_its_fence(self, fence: int, *, lost: bool) -> None:
        step = folded([PLAIN], started(fence=1), fence=fence).of("1")

        assert (step.lost(fence), step.in_doubt(fence)) == (lost, lost)

    @pytest.mark.parametrize("end", [done(), not_done(), unknown(), withdrawn()], ids=lambda entry: entry.kind)
    def test_an_attempt_with_an_outcome_is_not(self, end: Entry) -> None:
        assert not folded([PLAIN], started(), end, fence=2).of("1").lost(2)

    def test_it_is_a_doubt_that_outlives_the_next_attempt(self) -> None:
        log = [started(), started(attempt=2, fence=2), not_done()]

        assert folded([PLAIN], *log, fence=2).of("1").in_doubt(2)


class TestState:
    """The state that the store shows."""

    @pytest.mark.parametrize(
        ("log", "state"),
        [
            ([], SagaState.PENDING),
            ([started()], SagaState.RUNNING),
            ([started(), unknown()], SagaState.RUNNING),
            ([started(), unknown(), back()], SagaState.COMPENSATING),
            ([started(), unknown(), parked()], SagaState.PARKED),
            ([started(), unknown(), parked(), retried()], SagaState.RUNNING),
            ([started(), unknown(), parked(), resolved(Outcome.DONE)], SagaState.RUNNING),
            ([started(), unknown(), parked(), back()], SagaState.COMPENSATING),
            ([started(), unknown(), back(), parked(), retried()], SagaState.COMPENSATING),
            ([*finished("1"), Entry(EntryKind.COMPLETED)], SagaState.COMPLETED),
            ([back(), Entry(EntryKind.COMPENSATED)], SagaState.COMPENSATED),
            ([parked(), Entry(EntryKind.ABANDONED)], SagaState.ABANDONED),
        ],
        ids=lambda value: value if isinstance(value, SagaState) else " ".join(entry.kind for entry in value),
    )
    def test_it_follows_from_the_log(self, log: list[Entry], state: SagaState) -> None:
        assert folded([PLAIN], *log).state is state

    def test_the_end_has_its_text(self) -> None:
        assert folded([PLAIN], Entry(EntryKind.ABANDONED, error="paid by hand")).end_text == "paid by hand"

    def test_parked_has_its_place_and_reason(self) -> None:
        assert folded([PLAIN], parked("1", "why")).parked == ("1", "why")


class TestUndone:
    """Which steps were undone, for the note on the caller's error."""

    def test_it_names_them_in_the_order_of_undoing(self) -> None:
        log = [*finished("1"), *finished("2"), back(), undo_started("2"), undone("2"), undo_started("1"), undone("1")]

        assert folded([PLAIN, PLAIN], *log).undone == ["b", "a"]

    def test_read_only_and_not_done_steps_are_not_among_them(self) -> None:
        log = [*finished("1"), *finished("2"), started("3"), not_done("3"), back(), undo_started("1"), undone("1")]

        assert folded([PLAIN, READ_ONLY, PLAIN], *log).undone == ["a"]

    def test_what_a_person_resolved_after_its_undo_failed_is_among_them(self) -> None:
        log = [*finished("1"), back(), undo_started("1"), undo_failed("1"), parked(), resolved(Outcome.NOT_DONE)]

        assert folded([PLAIN], *log).undone == ["a"]


class TestNotes:
    """A NOTE is for people."""

    @pytest.mark.parametrize("log", [[], [started()], finished("1"), [*finished("1"), back()]])
    def test_it_changes_nothing(self, log: list[Entry]) -> None:
        before, progress = folded([PLAIN, PLAIN], *log), folded([PLAIN, PLAIN], *log)
        apply(progress, Entry(EntryKind.NOTE, "1", error="its thread has ended", context="other", attempt=7))

        assert facts(progress) == facts(before)


@pytest.mark.parametrize("kind", EntryKind)
def test_every_kind_of_entry_has_a_meaning(kind: EntryKind) -> None:
    progress = folded([PLAIN], *finished("1"), back())

    apply(progress, Entry(kind, "1", attempt=1, fence=1, outcome=Outcome.UNKNOWN))
    assert isinstance(progress.state, SagaState)


def test_a_progress_is_not_compared_by_value() -> None:
    """It changes in place, so that two that are equal now are still two."""
    one, other = folded([PLAIN]), folded([PLAIN])

    assert one != other
    assert isinstance(one, Progress)
