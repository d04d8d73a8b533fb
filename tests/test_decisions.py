"""What a saga does next: the laws one by one, then all of them against the rules told a second time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeAlias, TypeVar

import pytest
from attrs import evolve
from hypothesis import event, given, settings
from hypothesis import strategies as st
from saga_logs import (
    PIVOT,
    PLAIN,
    PROBED,
    PROBED_PIVOT,
    READ_ONLY,
    RETRIED,
    after,
    back,
    done,
    finished,
    folded,
    not_done,
    parked,
    probed,
    resolved,
    retried,
    said,
    started,
    undo_failed,
    undo_started,
    undone,
    unknown,
    withdrawn,
)
from saga_model import Acting, Before, Call, Person, Plan, PlannedStep, Turn, Undo, Undoing, story
from saga_play import Play, desk_of

from anysaga._decisions import Act, Back, Compensate, GiveUp, Park, can_go_back, decide, pivot_in_doubt, uncalled
from anysaga._folding import apply
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind, Outcome, SagaState

SECOND = 1_000_000
T = TypeVar("T")
Tracer: TypeAlias = Callable[[FrameType, str, Any], Any]


class TestForward:
    """A saga whose steps end well."""

    def test_a_new_saga_acts_its_first_step(self) -> None:
        assert said(after([PLAIN, PLAIN])) == "act 1 #1"

    def test_an_intent_of_this_owner_is_acted_without_a_second_one(self) -> None:
        decision = after([PLAIN], started())

        assert isinstance(decision, Act)
        assert (decision.attempt, decision.intent_written) == (1, True)

    def test_a_done_step_leads_to_the_next(self) -> None:
        assert said(after([PLAIN, PLAIN], *finished("1"))) == "act 2 #1"

    def test_the_last_done_step_completes_the_saga(self) -> None:
        assert said(after([PLAIN, PLAIN], *finished("1"), *finished("2"))) == "COMPLETED"

    def test_a_withdrawn_intent_is_as_if_it_had_never_been(self) -> None:
        decision = after([PLAIN], started(), withdrawn(), fence=2)

        assert decision == after([PLAIN], fence=2)


class TestNotDone:
    """An attempt that certainly had no effect."""

    def test_without_a_retry_the_saga_goes_back(self) -> None:
        assert said(after([PLAIN], started(), not_done())) == "back"

    def test_it_is_retried_if_the_policy_allows(self) -> None:
        assert said(after([RETRIED], started(), not_done(wait=1.0))) == "act 1 #2"

    def test_it_is_not_retried_where_the_policy_refused_the_error(self) -> None:
        assert said(after([RETRIED], started(), not_done(wait=None))) == "back"

    def test_going_back_begins_with_the_step_before(self) -> None:
        decision = after([PLAIN, PLAIN], *finished("1"), started("2"), not_done("2"), back())

        assert said(decision) == "undo 1 #1 DONE"

    def test_a_first_step_that_was_not_done_leaves_nothing_to_undo(self) -> None:
        assert said(after([PLAIN], started(), not_done(), back())) == "COMPENSATED"

    def test_it_is_not_probed(self) -> None:
        assert said(after([PROBED], started(), not_done())) == "back"

    def test_a_pivot_that_was_not_done_goes_back(self) -> None:
        assert said(after([PIVOT], started(), not_done())) == "back"

    def test_the_cause_names_the_step_and_its_error(self) -> None:
        decision = after([PLAIN], started(), not_done())

        assert isinstance(decision, Back)
        assert decision.cause == "step 'a' failed: no funds"


class TestUnknown:
    """Rule R: what follows an attempt of which nobody knows what became of it."""

    def test_first_it_is_acted_again_while_attempts_are_left(self) -> None:
        assert said(after([evolve(RETRIED, probes=True)], started(), unknown(wait=1.0))) == "act 1 #2"

    def test_second_it_is_probed(self) -> None:
        assert said(after([PROBED], started(), unknown())) == "probe 1"

    def test_third_it_is_compensated_itself_before_all_others(self) -> None:
        log = [*finished("1"), started("2"), unknown("2")]

        assert said(after([PLAIN, PLAIN], *log)) == "back"
        assert said(after([PLAIN, PLAIN], *log, back())) == "undo 2 #1 UNKNOWN"
        assert said(after([PLAIN, PLAIN], *log, back(), undo_started("2"), undone("2"))) == "undo 1 #1 DONE"

    def test_a_pivot_in_doubt_is_parked_instead(self) -> None:
        assert said(after([PIVOT], started(), unknown())) == "park 1"

    def test_a_read_only_step_in_doubt_is_skipped_when_going_back(self) -> None:
        log = [*finished("1"), started("2"), unknown("2"), back()]

        assert said(after([PLAIN, READ_ONLY], *log)) == "undo 1 #1 DONE"

    def test_a_pivot_is_retried_and_probed_before_it_is_parked(self) -> None:
        pivot = PlannedStep(Undoing.PIVOT, retry=2, probes=True)
        log = [started(), unknown(wait=1.0)]

        assert said(after([pivot], *log)) == "act 1 #2"
        log += [started(attempt=2), unknown(wait=1.0)]
        assert said(after([pivot], *log)) == "probe 1"
        assert said(after([pivot], *log, probed(Outcome.UNKNOWN))) == "park 1"

    def test_parking_a_pivot_says_why(self) -> None:
        decision = after([PIVOT], started(), unknown())

        assert isinstance(decision, Park)
        assert decision.reason == (
            "nobody can say whether this point of no return took effect (step 'a' failed: no answer)"
        )


class TestDoubtStays:
    """A1: once one attempt was unknown, the step stays unknown until an attempt is done, a probe or a person says."""

    @pytest.mark.parametrize("first", [[unknown(wait=1.0)], []], ids=["recorded", "lost"])
    def test_a_later_clean_failure_does_not_clear_it(self, first: list[Entry]) -> None:
        log = [started(), *first, started(attempt=2, fence=2), not_done()]

        assert said(after([RETRIED], *log, back(), fence=2)) == "undo 1 #1 UNKNOWN"

    def test_a_pivot_in_doubt_is_parked_after_a_later_clean_failure(self) -> None:
        log = [started(), unknown(wait=1.0), started(attempt=2), not_done()]

        assert said(after([evolve(PIVOT, retry=2)], *log)) == "park 1"

    def test_a_done_attempt_clears_it(self) -> None:
        log = [started(), unknown(wait=1.0), started(attempt=2), done(), back()]

        assert said(after([RETRIED], *log)) == "undo 1 #1 DONE"

    def test_a_probe_clears_it(self) -> None:
        log = [started(), unknown(), probed(Outcome.NOT_DONE)]

        assert said(after([PROBED], *log, back())) == "COMPENSATED"

    def test_a_person_clears_it(self) -> None:
        log = [started(), unknown(), parked(), resolved(Outcome.NOT_DONE)]

        assert said(after([PIVOT], *log)) == "back"

    def test_a_withdrawn_attempt_does_not_clear_it(self) -> None:
        log = [started(), unknown(wait=1.0), started(attempt=2), withdrawn(), back()]

        assert said(after([RETRIED], *log)) == "undo 1 #1 UNKNOWN"


class TestAttempts:
    """A3: how often an act is called."""

    def test_retry_bounds_them(self) -> None:
        log = [entry for number in (1, 2, 3) for entry in (started(attempt=number), not_done(wait=1.0))]

        assert said(after([RETRIED], *log[:4])) == "act 1 #3"
        assert said(after([RETRIED], *log)) == "back"

    def test_lost_attempts_count(self) -> None:
        log = [started(attempt=number, fence=number) for number in (1, 2, 3)]

        assert said(after([RETRIED], *log[:2], fence=3)) == "act 1 #3"
        assert said(after([RETRIED], *log, fence=4)) == "back"

    def test_withdrawn_attempts_do_not_count(self) -> None:
        log = [started(), not_done(wait=1.0), started(attempt=2), withdrawn()]

        assert said(after([RETRIED], *log)) == "act 1 #2"

    def test_without_a_retry_a_lost_attempt_is_acted_again_once(self) -> None:
        assert said(after([PLAIN], started(), fence=2)) == "act 1 #2"
        assert said(after([PLAIN], started(), started(attempt=2, fence=2), fence=3)) == "back"

    def test_a_failure_that_was_recorded_is_not_acted_again_without_a_retry(self) -> None:
        assert said(after([PLAIN], started(), unknown(), fence=2)) == "back"

    def test_a_withdrawn_second_attempt_leaves_the_first_one_lost(self) -> None:
        """Who stops between two steps costs nothing: the next owner still acts the lost attempt again once."""
        log = [started(), started(attempt=2, fence=2), withdrawn()]

        assert said(after([PLAIN], *log, fence=3)) == "act 1 #2"
        assert said(after([RETRIED], *log, fence=3)) == "act 1 #2"

    def test_a_step_with_a_probe_is_asked_instead_of_acted_again(self) -> None:
        assert said(after([PROBED], started(), fence=2)) == "probe 1"

    def test_a_lost_pivot_is_not_acted_again_without_a_retry(self) -> None:
        assert said(after([PIVOT], started(), fence=2)) == "park 1"

    def test_any_failure_of_the_second_act_leaves_the_step_unknown_because_of_the_first(self) -> None:
        log = [started(), started(attempt=2, fence=2), not_done()]

        assert said(after([PLAIN], *log, fence=2)) == "back"
        assert said(after([PLAIN], *log, back(), fence=2)) == "undo 1 #1 UNKNOWN"

    def test_an_intent_is_lost_only_for_a_later_owner(self) -> None:
        """An attempt that was lost is told apart by one thing: it has no outcome, and its fence is over."""
        assert said(after([PIVOT], started(fence=2), fence=2)) == "act 1 #1"
        assert said(after([PIVOT], started(fence=2), fence=3)) == "park 1"

    def test_a_person_allows_all_attempts_anew(self) -> None:
        retried_pivot = evolve(PIVOT, retry=2)
        log = [started(), unknown(wait=1.0), started(attempt=2), unknown(wait=1.0), parked()]

        assert said(after([retried_pivot], *log)) == "park 1"
        log += [retried(), started(attempt=3), unknown(wait=1.0)]
        assert said(after([retried_pivot], *log)) == "act 1 #4"
        assert said(after([retried_pivot], *log, started(attempt=4), unknown(wait=1.0))) == "park 1"


class TestWaits:
    """A wait is part of the log, so that it holds for the next owner too."""

    @pytest.mark.parametrize("fence", [1, 2])
    def test_the_next_attempt_waits_from_the_end_of_the_last(self, fence: int) -> None:
        decision = after([RETRIED], started(), unknown(wait=2.5, at=10 * SECOND), fence=fence)

        assert isinstance(decision, Act)
        assert decision.not_before == 12_500_000

    def test_a_lost_attempt_is_acted_again_at_once(self) -> None:
        decision = after([RETRIED], started(), fence=2)

        assert isinstance(decision, Act)
        assert decision.not_before == 0

    @pytest.mark.parametrize("fence", [1, 2])
    def test_the_next_undo_waits_from_the_end_of_the_last(self, fence: int) -> None:
        log = [*finished("1"), back(), undo_started(), undo_failed(wait=2.5, at=10 * SECOND)]
        decision = after([PLAIN], *log, fence=fence)

        assert isinstance(decision, Compensate)
        assert decision.not_before == 12_500_000

    def test_a_retry_by_a_person_does_not_wait(self) -> None:
        log = [started(), unknown(wait=100.0, at=SECOND), parked(), retried()]
        decision = after([PIVOT], *log)

        assert isinstance(decision, Act)
        assert decision.not_before == 0


class TestProbe:
    """A step that can be asked what became of it."""

    def test_done_goes_on(self) -> None:
        assert said(after([PROBED, PLAIN], started(), unknown(), probed(Outcome.DONE))) == "act 2 #1"

    def test_not_done_is_not_done(self) -> None:
        assert said(after([PROBED_PIVOT], started(), unknown(), probed(Outcome.NOT_DONE))) == "back"

    def test_unknown_falls_through(self) -> None:
        log = [started(), unknown(), probed(Outcome.UNKNOWN)]

        assert said(after([PROBED], *log)) == "back"
        assert said(after([PROBED_PIVOT], *log)) == "park 1"

    def test_unknown_about_a_lost_attempt_falls_through(self) -> None:
        assert said(after([PROBED], started(), probed(Outcome.UNKNOWN), fence=2)) == "back"

    def test_it_is_asked_once_after_an_attempt(self) -> None:
        log = [started(), unknown(), probed(Outcome.UNKNOWN), back()]

        assert said(after([PROBED], *log)) == "undo 1 #1 UNKNOWN"

    def test_it_is_asked_again_after_a_further_attempt(self) -> None:
        log = [started(), unknown(), probed(Outcome.UNKNOWN), parked(), retried(), started(attempt=2), unknown()]

        assert said(after([PROBED_PIVOT], *log)) == "probe 1"

    def test_below_a_back_it_settles_the_outcome(self) -> None:
        log = [started(), unknown(), back()]

        assert said(after([PROBED], *log)) == "probe 1"
        assert said(after([PROBED], *log, probed(Outcome.DONE))) == "undo 1 #1 DONE"
        assert said(after([PROBED], *log, probed(Outcome.NOT_DONE))) == "COMPENSATED"
        assert said(after([PROBED], *log, probed(Outcome.UNKNOWN))) == "undo 1 #1 UNKNOWN"

    def test_it_is_not_asked_once_its_undo_began(self) -> None:
        log = [started(), unknown(), back(), undo_started(), undo_failed()]

        assert said(after([PROBED], *log)) == "undo 1 #2 UNKNOWN"

    def test_a_done_step_is_not_asked(self) -> None:
        assert said(after([PROBED], *finished("1"), back())) == "undo 1 #1 DONE"


class TestGoingBack:
    """B1 and what follows it: below a BACK nothing is acted, and what was done is undone in reverse."""

    def test_done_steps_are_undone_in_reverse_order(self) -> None:
        log = [*finished("1"), *finished("2"), *finished("3"), back()]
        order = []
        for _ in range(3):
            decision = after([PLAIN] * 3, *log)
            assert isinstance(decision, Compensate)
            order.append(decision.leaf.path)
            log += [undo_started(decision.leaf.path), undone(decision.leaf.path)]

        assert order == ["3", "2", "1"]
        assert said(after([PLAIN] * 3, *log)) == "COMPENSATED"

    def test_retries_are_off(self) -> None:
        assert said(after([RETRIED], started(), unknown(wait=1.0), back())) == "undo 1 #1 UNKNOWN"

    def test_a_lost_attempt_is_not_acted_again(self) -> None:
        assert said(after([PLAIN], started(), back(), fence=2)) == "undo 1 #1 UNKNOWN"

    def test_a_step_that_never_began_is_not_undone(self) -> None:
        assert said(after([PLAIN, PLAIN], *finished("1"), back())) == "undo 1 #1 DONE"

    def test_a_withdrawn_step_is_not_undone(self) -> None:
        log = [*finished("1"), started("2"), withdrawn("2"), back()]

        assert said(after([PLAIN, PLAIN], *log)) == "undo 1 #1 DONE"

    def test_a_read_only_step_is_never_undone(self) -> None:
        assert said(after([PLAIN, READ_ONLY], *finished("1"), *finished("2"), back())) == "undo 1 #1 DONE"

    def test_an_intent_to_undo_of_this_owner_is_used(self) -> None:
        decision = after([PLAIN], *finished("1"), back(), undo_started(fence=1))

        assert isinstance(decision, Compensate)
        assert (decision.attempt, decision.intent_written) == (1, True)


class TestUndoFailure:
    """An undo that fails is repeated, then the saga is parked: in place, or after the rest was undone."""

    def failing(self, *paths: str) -> list[Entry]:
        log = [*finished("1"), *finished("2"), *finished("3"), back()]
        for path in paths:
            for attempt in (1, 2, 3):
                log += [undo_started(path, attempt), undo_failed(path)]
        return log

    def test_it_is_repeated_as_often_as_the_policy_says(self) -> None:
        assert said(after([PLAIN] * 3, *self.failing("3")[:-2])) == "undo 3 #3 DONE"

    def test_then_it_parks_there_in_order(self) -> None:
        decision = after([PLAIN] * 3, *self.failing("3"))

        assert isinstance(decision, Park)
        assert decision == Park("3", "its compensation failed 3 times: out of order")

    def test_an_error_that_the_policy_refuses_is_not_repeated(self) -> None:
        log = [*finished("1"), back(), undo_started(), undo_failed(wait=None)]

        assert after([PLAIN], *log) == Park("1", "its compensation failed: out of order")

    def test_continue_undoes_the_rest_first_then_parks(self) -> None:
        log = self.failing("3")

        assert said(after([PLAIN] * 3, *log, goes_on=True)) == "undo 2 #1 DONE"
        log += [undo_started("2"), undone("2"), undo_started("1"), undone("1")]
        decision = after([PLAIN] * 3, *log, goes_on=True)
        assert decision == Park("3", "the compensation of 'c' failed, all others were undone: out of order")

    def test_continue_goes_on_after_an_undo_that_was_lost_too_often(self) -> None:
        log = [*finished("1"), *finished("2"), back()]
        log += [undo_started("2", attempt, fence=attempt) for attempt in (1, 2, 3, 4)]
        decision = after([PLAIN, PLAIN], *log, fence=5, goes_on=True)

        assert isinstance(decision, GiveUp)
        assert (decision.leaf.path, decision.attempts, decision.cause) == ("2", 4, "its process died")
        log.append(undo_failed("2", wait=None))
        assert said(after([PLAIN, PLAIN], *log, fence=5, goes_on=True)) == "undo 1 #1 DONE"

    def test_a_lost_undo_is_repeated(self) -> None:
        assert said(after([PLAIN], *finished("1"), back(), undo_started(), fence=2)) == "undo 1 #2 DONE"

    def test_one_lost_undo_is_one_more_attempt(self) -> None:
        """An attempt to undo that was lost with its process says nothing about the undo."""
        once = PlannedStep(undo_attempts=1)
        log = [*finished("1"), back(), undo_started()]

        assert said(after([once], *log, fence=2)) == "undo 1 #2 DONE"
        assert said(after([once], *log, undo_started(attempt=2, fence=2), fence=3)) == "park 1"

    def test_a_withdrawn_attempt_to_undo_is_as_if_it_had_never_been(self) -> None:
        once = PlannedStep(undo_attempts=1)
        log = [*finished("1"), back(), undo_started(), undo_started(attempt=2, fence=2), withdrawn()]

        assert said(after([once], *log, fence=3)) == "undo 1 #2 DONE"

    def test_a_person_allows_all_attempts_anew(self) -> None:
        log = [*self.failing("3"), parked("3"), retried("3"), undo_started("3", 4), undo_failed("3")]

        assert said(after([PLAIN] * 3, *log)) == "undo 3 #5 DONE"

    def test_a_retry_concerns_all_that_were_given_up_in_reverse_order(self) -> None:
        log = [*self.failing("3", "1")[:-6], undo_started("2"), undone("2"), *self.failing("1")[-6:]]
        log += [parked("3"), retried("3")]

        assert said(after([PLAIN] * 3, *log, goes_on=True)) == "undo 3 #4 DONE"
        log += [undo_started("3", 4), undone("3")]
        assert said(after([PLAIN] * 3, *log, goes_on=True)) == "undo 1 #4 DONE"

    def test_resolved_as_not_done_counts_as_undone(self) -> None:
        log = [*self.failing("3"), parked("3"), resolved(Outcome.NOT_DONE, "3")]

        assert said(after([PLAIN] * 3, *log)) == "undo 2 #1 DONE"

    def test_resolved_as_done_is_undone_once_more(self) -> None:
        log = [*self.failing("3"), parked("3"), resolved(Outcome.DONE, "3")]

        assert said(after([PLAIN] * 3, *log)) == "undo 3 #4 DONE"

    def test_with_a_loss_between_undos_the_order_is_kept(self) -> None:
        log = [*finished("1"), *finished("2"), back(), undo_started("2")]

        assert said(after([PLAIN, PLAIN], *log, fence=7)) == "undo 2 #2 DONE"


class TestPivot:
    """B5: a point of no return."""

    def test_after_it_a_step_that_fails_for_good_is_parked(self) -> None:
        log = [*finished("1"), started("2"), not_done("2")]
        decision = after([PIVOT, evolve(RETRIED, retry=1)], *log)

        assert isinstance(decision, Park)
        assert decision.reason.startswith("it comes after the pivot 'a', so it cannot be undone")

    def test_after_it_a_step_is_retried_first(self) -> None:
        assert said(after([PIVOT, RETRIED], *finished("1"), started("2"), unknown("2", wait=0.0))) == "act 2 #2"

    @pytest.mark.parametrize("fence", [1, 2])
    def test_after_it_the_saga_cannot_go_back(self, fence: int) -> None:
        assert not can_go_back(folded([PIVOT, RETRIED], *finished("1"), started("2"), fence=fence))

    def test_before_it_the_saga_can_go_back(self) -> None:
        assert can_go_back(folded([PLAIN, PIVOT], *finished("1")))

    def test_in_doubt_the_saga_cannot_go_back(self) -> None:
        for log, fence in (([started(), unknown()], 1), ([started()], 2)):
            progress = folded([PIVOT], *log, fence=fence)
            found = pivot_in_doubt(progress)

            assert found is not None
            assert found.name == "a"
            assert not can_go_back(progress)

    def test_an_intent_that_was_not_called_is_no_doubt(self) -> None:
        progress = folded([PIVOT], started())

        assert pivot_in_doubt(progress) is None
        assert can_go_back(progress)

    def test_not_done_the_saga_can_go_back(self) -> None:
        assert can_go_back(folded([PIVOT], started(), not_done()))

    @pytest.mark.parametrize(
        ("log", "clean"),
        [
            ([], True),
            ([started(), not_done()], True),
            ([started(), withdrawn()], True),
            ([started(), unknown(), resolved(Outcome.NOT_DONE)], True),
            ([started(), unknown(), probed(Outcome.NOT_DONE), started(attempt=2), not_done()], True),
            ([started()], False),
            ([started(), unknown()], False),
            ([started(), done()], False),
            ([started(), not_done(), resolved(Outcome.DONE)], False),
            ([started(), unknown(), started(attempt=2), not_done()], False),
            ([started(), started(attempt=2), withdrawn()], False),
            ([started(), started(attempt=2), withdrawn(), started(attempt=2), not_done()], False),
        ],
        ids=lambda value: " ".join(entry.kind for entry in value) if isinstance(value, list) else str(value),
    )
    def test_a_person_may_send_it_back_only_if_it_certainly_had_no_effect(
        self, log: list[Entry], *, clean: bool
    ) -> None:
        """What a person's desk reads from the log alone agrees with what the next owner's progress says."""
        progress = folded([PIVOT, RETRIED], *log, fence=9)

        assert can_go_back(progress) is clean
        assert desk_of(progress, log).begun_pivot == (None if clean else "a")

    def test_resolved_as_done_the_saga_goes_forward_only(self) -> None:
        progress = folded([PIVOT, RETRIED], started(), unknown(), parked(), resolved(Outcome.DONE))

        assert said(decide(progress)) == "act 2 #1"
        assert not can_go_back(progress)


class TestUncalled:
    """B4: the intent that this owner wrote and did not use, and so can withdraw."""

    def test_it_is_the_act_of_a_written_intent(self) -> None:
        leaves = uncalled(folded([PLAIN, PLAIN], *finished("1"), started("2")))

        assert [leaf.path for leaf in leaves] == ["2"]

    def test_it_is_the_undo_of_a_written_intent(self) -> None:
        leaves = uncalled(folded([PLAIN], *finished("1"), back(), undo_started()))

        assert [leaf.path for leaf in leaves] == ["1"]

    @pytest.mark.parametrize(
        ("log", "fence"),
        [([], 1), ([started()], 2), ([started(), unknown()], 1), ([*finished("1"), back(), undo_started()], 2)],
        ids=["nothing", "lost", "ended", "undo lost"],
    )
    def test_nothing_else_is(self, log: list[Entry], fence: int) -> None:
        assert uncalled(folded([PLAIN], *log, fence=fence)) == []


# All laws at once


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any linear saga that can be declared: after its first pivot, every step can be retried."""
    steps = []
    passed = False
    for _ in range(draw(st.integers(1, 5))):
        undoing = draw(usually(Undoing.PLAIN, list(Undoing)))
        retry = draw(st.integers(1, 3) if passed else st.none() | st.integers(1, 3))
        probes, undo_attempts = draw(st.booleans()), draw(st.integers(1, 3))
        steps.append(PlannedStep(undoing, retry, probes, undo_attempts))
        passed = passed or undoing is Undoing.PIVOT
    return Plan(tuple(steps), draw(st.booleans()))


def usually(one: T, all_of_them: Sequence[T]) -> st.SearchStrategy[T]:
    return st.just(one) | st.sampled_from(all_of_them)


def turns(before: Sequence[Before], acts: Sequence[Acting], undos: Sequence[Undo]) -> st.SearchStrategy[Turn]:
    return st.builds(
        Turn,
        before=usually(Before.NOTHING, before),
        act=st.sampled_from(acts),
        undo=st.sampled_from(undos),
        answer=st.sampled_from([*Outcome, None]),
        saves=st.booleans(),
        writes=st.booleans(),
    )


mild = turns(list(Before), [Acting.DONE] * len(Acting) + list(Acting), list(Undo))
harsh = turns(
    [Before.LOST, Before.WITHDRAWN],
    [Acting.DONE, Acting.UNKNOWN, Acting.UNKNOWN_REFUSED, Acting.CLEAN_REFUSED, Acting.LOST],
    [Undo.FAILED, Undo.FAILED_REFUSED, Undo.LOST],
)
worlds = st.lists(mild, min_size=3, max_size=16) | st.lists(harsh, min_size=6, max_size=16)
people = st.lists(st.sampled_from(Person), max_size=5)


@settings(max_examples=1000)
@given(plans(), worlds, people)
def test_calls_and_end_are_those_of_the_rules(plan: Plan, world: list[Turn], persons: list[Person]) -> None:
    """Which calls follow, in which order, with which attempt and context, and how it ends."""
    end, told = story(plan, world, persons)
    play = Play(plan, list(world), list(persons))

    assert (play.play(), play.calls) == (end, told.calls)
    event(end)


@settings(max_examples=300)
@given(plans(), worlds, people)
def test_the_promises_hold_in_every_world(plan: Plan, world: list[Turn], persons: list[Person]) -> None:
    """What a user may rely on, read off the log and the calls alone."""
    play = Play(plan, world, persons)
    end = play.play()

    nothing_is_acted_below_a_back(play.log)
    nothing_is_undone_twice(play.calls, play.log)
    only_what_can_be_undone_is(plan, play.calls)
    after_a_pivot_nothing_goes_back(plan, play.log)
    doubt_stays(play.calls, play.log)
    if end is SagaState.COMPENSATED:
        everything_is_undone(plan, play.log)


@settings(max_examples=300)
@given(plans(), worlds)
def test_without_a_person_order_and_number_of_calls_are_bounded(plan: Plan, world: list[Turn]) -> None:
    play = Play(plan, world, [])
    play.play()
    undos = [call.place for call in play.calls if call.verb == "undo"]

    assert undos == sorted(undos, reverse=True)
    for place, step in enumerate(plan.steps):
        acts = [call for call in play.calls if (call.verb, call.place) == ("act", place)]
        assert len(acts) <= (step.retry or 2)
        assert undos.count(place) <= step.undo_attempts + 1


def nothing_is_acted_below_a_back(log: list[Entry]) -> None:
    kinds = [entry.kind for entry in log]
    if EntryKind.BACK in kinds:
        assert EntryKind.STARTED not in kinds[kinds.index(EntryKind.BACK) :]
        assert kinds.count(EntryKind.BACK) == 1


def nothing_is_undone_twice(calls: list[Call], log: list[Entry]) -> None:
    paths = [entry.path for entry in log if entry.kind is EntryKind.UNDONE]
    assert len(paths) == len(set(paths))
    for path in paths:
        kinds = [entry.kind for entry in log if entry.path == path]
        assert EntryKind.UNDO_STARTED not in kinds[kinds.index(EntryKind.UNDONE) :]


def only_what_can_be_undone_is(plan: Plan, calls: list[Call]) -> None:
    for call in calls:
        assert call.verb != "undo" or plan.steps[call.place].undoing is Undoing.PLAIN


def after_a_pivot_nothing_goes_back(plan: Plan, log: list[Entry]) -> None:
    passed = False
    for entry in log:
        says_done = entry.kind is EntryKind.DONE or entry.outcome is Outcome.DONE
        if entry.path and says_done and plan.steps[int(entry.path) - 1].undoing is Undoing.PIVOT:
            passed = True
        assert not (passed and entry.kind is EntryKind.BACK)


def doubt_stays(calls: list[Call], log: list[Entry]) -> None:
    """An undo is told that the step is in doubt, unless something said that it is done."""
    done_places = {
        int(entry.path) - 1 for entry in log if entry.kind is EntryKind.DONE or entry.outcome is Outcome.DONE
    }
    for call in calls:
        if call.verb == "undo" and call.outcome is Outcome.DONE:
            assert call.place in done_places


def everything_is_undone(plan: Plan, log: list[Entry]) -> None:
    for number, step in enumerate(plan.steps, start=1):
        mine = [entry for entry in log if entry.path == str(number)]
        done_ever = any(entry.kind is EntryKind.DONE for entry in mine)
        by_person = any(entry.kind is EntryKind.RESOLVED for entry in mine)
        if done_ever and step.undoing is Undoing.PLAIN and not by_person:
            assert any(entry.kind is EntryKind.UNDONE for entry in mine)


# Cost


class Unwalked(list[Any]):
    """A list that may be touched at its ends only: walking it would cost more the longer the saga is."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("walked through all steps")

    __contains__ = remove = index = copy = __iter__  # type: ignore[assignment]  # none of them may be called


def log_of_a_run(count: int) -> list[Entry]:
    """A saga that did all its steps but the last, and was undone; each undo needed two attempts."""
    log = [entry for number in range(1, count + 1) for entry in finished(str(number))][:-1]
    log += [unknown(str(count)), back()]
    for number in range(count, 0, -1):
        path = str(number)
        log += [undo_started(path), undo_failed(path), undo_started(path, 2), undone(path)]
    return log


def dearest_entry(count: int) -> int:
    """Lines of ours that run for the dearest entry of a saga of so many steps, to fold it and to decide after it."""
    progress = folded([PLAIN] * count)
    progress.done, progress.undone = Unwalked(), Unwalked()
    dearest = 0
    for entry in log_of_a_run(count):
        dearest = max(dearest, lines_of(progress, entry))
    assert progress.undone == [leaf.name for leaf in reversed(progress.definition.leaves)]
    return dearest


def lines_of(progress: Progress, entry: Entry) -> int:
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Tracer | None:
        nonlocal lines
        if not frame.f_globals.get("__name__", "").startswith("anysaga."):
            return None
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        apply(progress, entry)
        decide(progress)
    finally:
        sys.settrace(before)
    return lines


def test_the_thousandth_step_costs_what_the_tenth_does() -> None:
    """To fold one entry and to decide after it runs the same few lines in a long saga, and walks no list of steps."""
    assert dearest_entry(1000) == dearest_entry(10) > 0
