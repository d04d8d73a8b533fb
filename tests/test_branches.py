"""What a saga of Fallbacks and Parallels does next, one law at a time. All of them at once: `test_trees`."""

from __future__ import annotations

import pytest
from saga_logs import (
    PROBED,
    READ_ONLY,
    done,
    finished,
    parked,
    probed,
    resolved,
    retried,
    started,
    undo_failed,
    undo_started,
    undone,
    withdrawn,
)
from saga_model import PlannedStep
from saga_play import step_of
from tree_logs import (
    PIVOT_P,
    PROBED_A,
    RETRIED_A,
    RETRIED_B,
    RETRIED_C,
    A,
    B,
    C,
    D,
    after,
    back,
    branches,
    failed,
    folded,
    refused,
    undo_done,
)
from tree_play import CaughtError, paths, tree_of

from anysaga import StepLost
from anysaga._composites import Fallback, Parallel
from anysaga._decisions import decide_branch, uncalled
from anysaga._definition import Definition
from anysaga._nodes import Node
from anysaga._records import Entry, Outcome


class TestFallback:
    """A primary, and what takes its place."""

    tree = tree_of(Fallback(A, B), C)
    primary = "1/primary"

    def test_the_primary_acts_first(self) -> None:
        assert after(self.tree) == "act 1/primary #1"

    def test_a_done_primary_leads_to_the_next_step(self) -> None:
        assert after(self.tree, *finished(self.primary)) == "act 2 #1"

    def test_a_done_primary_completes_a_saga_that_ends_with_it(self) -> None:
        assert after(tree_of(Fallback(A, B)), *finished(self.primary)) == "COMPLETED"

    def test_a_done_fallback_leads_to_the_next_step(self) -> None:
        log = [started(self.primary), refused(self.primary, self.primary), back(self.primary)]

        assert after(self.tree, *log, *finished("1/fallback")) == "act 2 #1"

    def test_a_primary_that_can_be_retried_is(self) -> None:
        log = [started(self.primary), failed(self.primary, self.primary, wait=1.0)]

        assert after(tree_of(Fallback(RETRIED_A, B)), *log) == "act 1/primary #2"

    def test_a_caught_failure_sends_the_primary_back(self) -> None:
        assert after(self.tree, started(self.primary), refused(self.primary, self.primary)) == "back 1/primary"
        assert after(self.tree, started(self.primary), failed(self.primary, self.primary)) == "back 1/primary"

    def test_a_failure_that_is_not_caught_sends_the_saga_back(self) -> None:
        assert after(self.tree, started(self.primary), failed(self.primary)) == "back"

    def test_after_a_primary_without_effect_the_fallback_acts_at_once(self) -> None:
        log = [started(self.primary), refused(self.primary, self.primary), back(self.primary)]

        assert after(self.tree, *log) == "act 1/fallback #1"

    def test_a_primary_in_doubt_is_undone_before_the_fallback_acts(self) -> None:
        log = [started(self.primary), failed(self.primary, self.primary), back(self.primary)]

        assert after(self.tree, *log) == "undo 1/primary #1 UNKNOWN"
        assert after(self.tree, *log, *undo_done(self.primary)) == "act 1/fallback #1"

    def test_a_read_only_primary_in_doubt_needs_no_undo(self) -> None:
        log = [started(self.primary), failed(self.primary, self.primary), back(self.primary)]

        assert after(tree_of(Fallback(step_of(READ_ONLY, "a"), B)), *log) == "act 1/fallback #1"

    def test_a_doubt_of_an_earlier_attempt_is_undone_too(self) -> None:
        """A1: what was unknown once stays unknown, though the last attempt was clean."""
        log = [started(self.primary), failed(self.primary, self.primary, wait=1.0), started(self.primary, 2)]
        log += [refused(self.primary, self.primary), back(self.primary)]

        assert after(tree_of(Fallback(RETRIED_A, B)), *log) == "undo 1/primary #1 UNKNOWN"

    def test_whether_it_is_caught_says_the_last_failure(self) -> None:
        log = [started(self.primary), failed(self.primary, self.primary, wait=1.0), started(self.primary, 2)]

        assert after(tree_of(Fallback(RETRIED_A, B)), *log, failed(self.primary)) == "back"

    def test_what_was_caught_is_read_from_the_log_and_not_asked_again(self) -> None:
        """B2: the code may know other exceptions by now; an owner after a crash does not look."""
        narrow = tree_of(Fallback(A, B, (CaughtError,)))
        log = [started(self.primary), failed(self.primary, self.primary)]

        assert after(narrow, *log, fence=2) == "back 1/primary"

    def test_a_fallback_can_be_retried_as_well(self) -> None:
        tree = tree_of(Fallback(A, RETRIED_B))
        log = [started(self.primary), refused(self.primary, self.primary), back(self.primary), started("1/fallback")]

        assert after(tree, *log, failed("1/fallback", wait=1.0)) == "act 1/fallback #2"

    def test_a_fallback_that_fails_sends_the_saga_back(self) -> None:
        log = [started(self.primary), refused(self.primary, self.primary), back(self.primary), started("1/fallback")]

        assert after(self.tree, *log, failed("1/fallback")) == "back"


class TestLostPrimary:
    """A primary whose process died counts as `StepLost`."""

    lost = [started("1/primary")]
    lost_twice = [started("1/primary"), started("1/primary", 2, fence=2)]

    def test_it_is_acted_again_once(self) -> None:
        assert after(tree_of(Fallback(A, B)), *self.lost, fence=2) == "act 1/primary #2"

    def test_lost_again_it_falls_back(self) -> None:
        assert after(tree_of(Fallback(A, B)), *self.lost_twice, fence=3) == "back 1/primary"

    def test_with_a_retry_it_falls_back_when_its_attempts_are_used_up(self) -> None:
        tree = tree_of(Fallback(step_of(PlannedStep(retry=3), "a"), B))
        log = [*self.lost_twice, started("1/primary", 3, fence=3)]

        assert after(tree, *self.lost_twice, fence=3) == "act 1/primary #3"
        assert after(tree, *log, fence=4) == "back 1/primary"

    def test_with_a_probe_it_is_asked_instead_of_acted_again(self) -> None:
        assert after(tree_of(Fallback(PROBED_A, B)), *self.lost, fence=2) == "probe 1/primary"

    def test_a_probe_that_says_done_goes_on(self) -> None:
        log = [*self.lost, probed(Outcome.DONE, "1/primary")]

        assert after(tree_of(Fallback(PROBED_A, B), C), *log, fence=2) == "act 2 #1"

    def test_a_probe_that_says_not_done_falls_back_without_an_undo(self) -> None:
        log = [*self.lost, probed(Outcome.NOT_DONE, "1/primary")]

        assert after(tree_of(Fallback(PROBED_A, B)), *log, fence=2) == "back 1/primary"
        assert after(tree_of(Fallback(PROBED_A, B)), *log, back("1/primary"), fence=2) == "act 1/fallback #1"

    def test_a_probe_that_does_not_know_falls_back_after_an_undo(self) -> None:
        log = [*self.lost, probed(Outcome.UNKNOWN, "1/primary")]

        assert after(tree_of(Fallback(PROBED_A, B)), *log, fence=2) == "back 1/primary"
        assert after(tree_of(Fallback(PROBED_A, B)), *log, back("1/primary"), fence=2) == "undo 1/primary #1 UNKNOWN"

    def test_a_failure_that_was_caught_before_the_crash_still_is_after_a_probe(self) -> None:
        log = [started("1/primary"), failed("1/primary", "1/primary"), probed(Outcome.NOT_DONE, "1/primary")]
        tree = tree_of(Fallback(PROBED_A, B, (CaughtError,)))

        assert after(tree, *log, fence=2) == "back 1/primary"

    def test_it_goes_back_where_the_fallback_is_for_other_errors(self) -> None:
        assert after(tree_of(Fallback(A, B, (CaughtError,))), *self.lost_twice, fence=3) == "back"

    def test_it_falls_back_where_the_fallback_is_for_lost_steps(self) -> None:
        assert after(tree_of(Fallback(A, B, (StepLost,))), *self.lost_twice, fence=3) == "back 1/primary"

    def test_lost_before_the_fallback_acted_it_goes_on_from_there(self) -> None:
        log = [started("1/primary"), failed("1/primary", "1/primary"), back("1/primary"), undo_started("1/primary")]

        assert after(tree_of(Fallback(A, B)), *log, fence=2) == "undo 1/primary #2 UNKNOWN"
        assert after(tree_of(Fallback(A, B)), *log, undone("1/primary"), fence=2) == "act 1/fallback #1"

    def test_a_lost_fallback_is_acted_again_once_too(self) -> None:
        log = [started("1/primary"), refused("1/primary", "1/primary"), back("1/primary"), started("1/fallback")]

        assert after(tree_of(Fallback(A, B)), *log, fence=2) == "act 1/fallback #2"
        assert after(tree_of(Fallback(A, B)), *log, started("1/fallback", 2, fence=2), fence=3) == "back"


class TestUndoOfAFallback:
    """Whichever did the work is the one that is undone."""

    tree = tree_of(A, Fallback(B, C), D)
    fell_back = [
        *finished("1"),
        started("2/primary"),
        failed("2/primary", "2/primary"),
        back("2/primary"),
        *undo_done("2/primary"),
    ]

    def test_the_primary_if_it_is_done(self) -> None:
        log = [*finished("1"), *finished("2/primary"), started("3"), refused("3"), back()]

        assert after(self.tree, *log) == "undo 2/primary #1 DONE"
        assert after(self.tree, *log, *undo_done("2/primary")) == "undo 1 #1 DONE"

    def test_the_fallback_alone_if_that_is_done(self) -> None:
        log = [*self.fell_back, *finished("2/fallback"), started("3"), refused("3"), back()]

        assert after(self.tree, *log) == "undo 2/fallback #1 DONE"
        assert after(self.tree, *log, *undo_done("2/fallback")) == "undo 1 #1 DONE"

    def test_a_fallback_in_doubt_and_not_the_primary_again(self) -> None:
        log = [*self.fell_back, started("2/fallback"), failed("2/fallback"), back()]

        assert after(self.tree, *log) == "undo 2/fallback #1 UNKNOWN"
        assert after(self.tree, *log, *undo_done("2/fallback")) == "undo 1 #1 DONE"

    def test_neither_if_the_fallback_had_no_effect(self) -> None:
        log = [*self.fell_back, started("2/fallback"), refused("2/fallback"), back()]

        assert after(self.tree, *log) == "undo 1 #1 DONE"

    def test_going_back_between_the_two_acts_nothing(self) -> None:
        assert after(self.tree, *self.fell_back, back()) == "undo 1 #1 DONE"

    def test_going_back_while_the_primary_is_undone_finishes_that_undo_first(self) -> None:
        log = [*self.fell_back[:-1], back()]

        assert after(self.tree, *log, undone("2/primary")) == "undo 1 #1 DONE"
        assert after(self.tree, *log, fence=2) == "undo 2/primary #2 UNKNOWN"

    def test_going_back_before_the_primary_is_undone_undoes_it(self) -> None:
        assert after(self.tree, *self.fell_back[:-2], back()) == "undo 2/primary #1 UNKNOWN"

    def test_a_withdrawn_fallback_never_was(self) -> None:
        log = [*self.fell_back, started("2/fallback"), withdrawn("2/fallback")]

        assert after(self.tree, *log, fence=2) == "act 2/fallback #1"
        assert after(self.tree, *log, back(), fence=2) == "undo 1 #1 DONE"

    def test_chosen_are_the_steps_that_did_the_work(self) -> None:
        progress = folded(self.tree, *self.fell_back, *finished("2/fallback"), *finished("3"))

        assert paths(progress.chosen) == ["1", "2/fallback", "3"]


class TestPrimaryThatCannotBeUndone:
    """B2: the fallback acts only after a person resolved it."""

    log = [
        started("1/primary"),
        failed("1/primary", "1/primary"),
        back("1/primary"),
        undo_started("1/primary"),
        undo_failed("1/primary", wait=None),
    ]

    @pytest.mark.parametrize("goes_on", [False, True], ids=["park", "continue"])
    def test_it_is_parked(self, *, goes_on: bool) -> None:
        assert after(tree_of(Fallback(A, B), goes_on=goes_on), *self.log) == "park 1/primary"

    @pytest.mark.parametrize("goes_on", [False, True], ids=["park", "continue"])
    def test_resolved_as_not_done_the_fallback_acts(self, *, goes_on: bool) -> None:
        log = [*self.log, parked("1/primary"), resolved(Outcome.NOT_DONE, "1/primary")]

        assert after(tree_of(Fallback(A, B), goes_on=goes_on), *log, fence=2) == "act 1/fallback #1"

    @pytest.mark.parametrize("goes_on", [False, True], ids=["park", "continue"])
    @pytest.mark.parametrize(
        "answer", [retried("1/primary"), resolved(Outcome.DONE, "1/primary")], ids=["retry", "done"]
    )
    def test_else_its_undo_is_tried_again_first(self, answer: Entry, *, goes_on: bool) -> None:
        tree, log = tree_of(Fallback(A, B), goes_on=goes_on), [*self.log, parked("1/primary"), answer]

        assert after(tree, *log, fence=2).startswith("undo 1/primary #2")
        assert after(tree, *log, undo_started("1/primary", 2, 2), undone("1/primary"), fence=2) == "act 1/fallback #1"

    @pytest.mark.parametrize("goes_on", [False, True], ids=["park", "continue"])
    def test_a_person_may_send_the_saga_back_instead_and_its_undo_is_tried_again(self, *, goes_on: bool) -> None:
        tree = tree_of(A, Fallback(B, C), goes_on=goes_on)
        log = [*finished("1"), *(each_at("2/primary", entry) for entry in self.log), parked("2/primary"), back()]

        assert after(tree, *log, fence=2) == "undo 2/primary #2 UNKNOWN"
        log += [undo_started("2/primary", 2, 2), undone("2/primary")]
        assert after(tree, *log, fence=2) == "undo 1 #1 DONE"


def each_at(path: str, entry: Entry) -> Entry:
    """The same entry about another primary."""
    caught = path if entry.caught else None
    return Entry(entry.kind, path, entry.attempt, error=entry.error, wait=entry.wait, caught=caught, fence=entry.fence)


class TestRetryByAPerson:
    """All attempts are allowed anew, in every branch: the log names only the one that was reported."""

    def test_all_undos_that_failed_are_tried_again(self) -> None:
        log = [started("1/1"), started("1/2"), *(done(path) for path in ("1/1", "1/2")), back()]
        log += [undo_started("1/1"), undo_started("1/2"), undo_failed("1/1", None), undo_failed("1/2", None)]
        tree = tree_of(Parallel(A, B))

        assert branches(tree, *log, parked("1/2"), retried("1/2"), fence=2) == ["undo 1/1 #2 DONE", "undo 1/2 #2 DONE"]

    def test_all_acts_that_failed_after_a_pivot_are_tried_again(self) -> None:
        log = [*finished("1"), started("2/1"), started("2/2"), started("2/3"), done("2/3")]
        log += [failed("2/1"), failed("2/2"), parked("2/1"), retried("2/1")]
        tree = tree_of(PIVOT_P, Parallel(RETRIED_A, RETRIED_B, RETRIED_C))

        assert branches(tree, *log, fence=2) == ["act 2/1 #2", "act 2/2 #2", "-"]


class TestNestedFallbacks:
    """The innermost Fallback that catches an error takes over."""

    first = tree_of(Fallback(Fallback(A, B), C))
    last = tree_of(Fallback(A, Fallback(B, C)))

    def test_what_the_inner_one_catches_stays_inside(self) -> None:
        inner = "1/primary/primary"
        log = [started(inner), refused(inner, inner)]

        assert after(self.first, *log) == "back 1/primary/primary"
        assert after(self.first, *log, back(inner)) == "act 1/primary/fallback #1"

    def test_what_only_the_outer_one_catches_skips_the_inner_fallback(self) -> None:
        inner = "1/primary/primary"
        log = [started(inner), failed(inner, "1/primary")]

        assert after(self.first, *log) == "back 1/primary"
        assert after(self.first, *log, back("1/primary")) == "undo 1/primary/primary #1 UNKNOWN"
        assert after(self.first, *log, back("1/primary"), *undo_done(inner)) == "act 1/fallback #1"

    def test_an_inner_fallback_that_fails_leads_to_the_outer_one(self) -> None:
        inner, then = "1/primary/primary", "1/primary/fallback"
        log = [started(inner), failed(inner, inner), back(inner), *undo_done(inner), started(then)]
        log += [failed(then, "1/primary")]

        assert after(self.first, *log) == "back 1/primary"
        assert after(self.first, *log, back("1/primary")) == "undo 1/primary/fallback #1 UNKNOWN"
        assert after(self.first, *log, back("1/primary"), *undo_done(then)) == "act 1/fallback #1"

    def test_a_fallback_may_fall_back_itself(self) -> None:
        then = "1/fallback/primary"
        log = [started("1/primary"), refused("1/primary", "1/primary"), back("1/primary")]

        assert after(self.last, *log) == "act 1/fallback/primary #1"
        log += [started(then), refused(then, then)]
        assert after(self.last, *log) == "back 1/fallback/primary"
        assert after(self.last, *log, back(then)) == "act 1/fallback/fallback #1"
        assert after(self.last, *log, back(then), *finished("1/fallback/fallback")) == "COMPLETED"


class TestAfterAPivot:
    """B5: a later Fallback may still undo its own primary, but nothing else goes back."""

    tree = tree_of(PIVOT_P, Fallback(RETRIED_A, RETRIED_B))
    failure = [*finished("1"), started("2/primary"), failed("2/primary", "2/primary")]

    def test_a_caught_failure_falls_back(self) -> None:
        assert after(self.tree, *self.failure) == "back 2/primary"
        assert after(self.tree, *self.failure, back("2/primary")) == "undo 2/primary #1 UNKNOWN"
        log = [*self.failure, back("2/primary"), *undo_done("2/primary")]
        assert after(self.tree, *log) == "act 2/fallback #1"

    def test_a_failure_that_is_not_caught_is_parked(self) -> None:
        assert after(self.tree, *finished("1"), started("2/primary"), failed("2/primary")) == "park 2/primary"

    def test_a_fallback_that_fails_is_parked(self) -> None:
        log = [*self.failure, back("2/primary"), *undo_done("2/primary"), started("2/fallback"), refused("2/fallback")]

        assert after(self.tree, *log) == "park 2/fallback"

    def test_a_primary_that_cannot_be_undone_is_parked(self) -> None:
        log = [*self.failure, back("2/primary"), undo_started("2/primary"), undo_failed("2/primary", wait=None)]

        assert after(self.tree, *log) == "park 2/primary"

    def test_a_branch_that_cannot_go_on_lets_the_others_end_first(self) -> None:
        tree = tree_of(PIVOT_P, Parallel(RETRIED_A, RETRIED_B))
        log = [*finished("1"), started("2/1"), failed("2/1"), started("2/2")]

        assert branches(tree, *log) == ["park 2/1", "act 2/2 #1"]
        assert after(tree, *log, done("2/2")) == "park 2/1"

    def test_several_branches_that_cannot_go_on_are_parked_one_after_the_other(self) -> None:
        tree = tree_of(PIVOT_P, Parallel(RETRIED_A, RETRIED_B))
        log = [*finished("1"), started("2/1"), refused("2/1"), started("2/2"), refused("2/2")]

        assert after(tree, *log) == "park 2/1"
        log += [parked("2/1"), resolved(Outcome.DONE, "2/1")]
        assert after(tree, *log, fence=2) == "park 2/2"
        log += [parked("2/2"), resolved(Outcome.DONE, "2/2")]
        assert after(tree, *log, fence=3) == "COMPLETED"


class TestParallel:
    """Steps that act at the same time."""

    tree = tree_of(A, Parallel(B, C), D)
    begun = [*finished("1"), started("2/1"), started("2/2")]

    def test_all_branches_act_at_the_same_time(self) -> None:
        assert after(self.tree, *finished("1")) == "fork 2"
        assert branches(self.tree, *finished("1")) == ["act 2/1 #1", "act 2/2 #1"]

    def test_a_branch_that_is_done_leaves_the_others_as_they_are(self) -> None:
        assert branches(self.tree, *self.begun, done("2/2")) == ["act 2/1 #1", "-"]

    def test_once_all_are_done_the_saga_goes_on(self) -> None:
        assert after(self.tree, *self.begun, done("2/2"), done("2/1")) == "act 3 #1"

    def test_a_failure_of_one_sends_the_saga_back(self) -> None:
        assert after(self.tree, *self.begun, failed("2/2")) == "back"

    def test_a_branch_does_not_act_any_more_once_the_saga_goes_back(self) -> None:
        progress = folded(self.tree, *self.begun, failed("2/2"), back())

        assert [decide_branch(progress, child) for child in children_of(self.tree, 1)] == [None, None]

    def test_only_branches_that_began_are_undone(self) -> None:
        log = [*finished("1"), started("2/1"), failed("2/1"), back()]

        assert branches(self.tree, *log) == ["undo 2/1 #1 UNKNOWN", "-"]

    def test_branches_are_undone_at_the_same_time(self) -> None:
        log = [*self.begun, done("2/1"), failed("2/2"), back()]

        assert branches(self.tree, *log) == ["undo 2/1 #1 DONE", "undo 2/2 #1 UNKNOWN"]

    def test_all_are_undone_before_what_preceded_them(self) -> None:
        log = [*self.begun, done("2/1"), failed("2/2"), back(), *undo_done("2/1")]

        assert branches(self.tree, *log) == ["-", "undo 2/2 #1 UNKNOWN"]
        assert after(self.tree, *log, *undo_done("2/2")) == "undo 1 #1 DONE"

    def test_a_done_group_is_undone_after_what_followed_it(self) -> None:
        log = [*self.begun, done("2/1"), done("2/2"), started("3"), failed("3"), back()]

        assert after(self.tree, *log) == "undo 3 #1 UNKNOWN"
        assert branches(self.tree, *log, *undo_done("3")) == ["undo 2/1 #1 DONE", "undo 2/2 #1 DONE"]

    def test_an_undo_that_fails_for_good_lets_the_others_be_undone_first(self) -> None:
        log = [*self.begun, done("2/1"), failed("2/2"), back(), undo_started("2/1"), undo_failed("2/1", wait=None)]

        assert branches(self.tree, *log) == ["park 2/1", "undo 2/2 #1 UNKNOWN"]
        assert after(self.tree, *log, *undo_done("2/2")) == "park 2/1"

    def test_a_step_that_ends_well_after_the_failure_of_another_is_undone(self) -> None:
        log = [*self.begun, failed("2/2"), back(), done("2/1")]

        assert branches(self.tree, *log) == ["undo 2/1 #1 DONE", "undo 2/2 #1 UNKNOWN"]

    def test_recovery_resumes_only_what_is_missing(self) -> None:
        tree = tree_of(Parallel(A, B, step_of(PROBED, "c"), D))
        log = [started("1/1"), started("1/2"), done("1/2"), started("1/3")]

        assert branches(tree, *log, fence=2) == ["act 1/1 #2", "-", "probe 1/3", "act 1/4 #1"]

    def test_the_intents_of_branches_that_were_not_called_can_be_withdrawn(self) -> None:
        progress = folded(self.tree, *self.begun)
        assert paths(uncalled(progress)) == ["2/1", "2/2"]

        log = [*self.begun, withdrawn("2/1"), withdrawn("2/2")]
        assert branches(self.tree, *log, fence=2) == ["act 2/1 #1", "act 2/2 #1"]

    def test_an_intent_of_an_older_owner_cannot_be_withdrawn(self) -> None:
        assert uncalled(folded(self.tree, *self.begun, fence=2)) == []


def children_of(definition: Definition, place: int) -> tuple[Node, ...]:
    """The branches of the Parallel at this place, from 0."""
    children: tuple[Node, ...] = definition.steps[place].children  # type: ignore[union-attr]  # a Parallel
    return children


class TestFallbackInParallel:
    """A branch that falls back does so by itself."""

    tree = tree_of(Parallel(Fallback(A, B), C))
    begun = [started("1/1/primary"), started("1/2")]

    def test_a_caught_failure_stays_in_its_branch(self) -> None:
        log = [*self.begun, failed("1/1/primary", "1/1/primary")]

        assert branches(self.tree, *log) == ["back 1/1/primary", "act 1/2 #1"]
        assert branches(self.tree, *log, back("1/1/primary")) == ["undo 1/1/primary #1 UNKNOWN", "act 1/2 #1"]

    def test_the_fallback_acts_while_the_others_go_on(self) -> None:
        log = [*self.begun, refused("1/1/primary", "1/1/primary"), back("1/1/primary")]

        assert branches(self.tree, *log) == ["act 1/1/fallback #1", "act 1/2 #1"]
        assert branches(self.tree, *log, done("1/2")) == ["act 1/1/fallback #1", "-"]
        assert after(self.tree, *log, done("1/2"), *finished("1/1/fallback")) == "COMPLETED"

    def test_a_failure_that_is_not_caught_sends_all_back(self) -> None:
        assert after(self.tree, *self.begun, failed("1/1/primary")) == "back"

    def test_only_the_chosen_branch_is_undone(self) -> None:
        log = [*self.begun, refused("1/1/primary", "1/1/primary"), back("1/1/primary")]
        log += [*finished("1/1/fallback"), failed("1/2"), back()]

        assert branches(self.tree, *log) == ["undo 1/1/fallback #1 DONE", "undo 1/2 #1 UNKNOWN"]


class TestParallelInFallback:
    """A group goes back as a whole."""

    first = tree_of(Fallback(Parallel(A, B), C))
    last = tree_of(Fallback(A, Parallel(B, C)))

    def test_a_caught_failure_undoes_the_whole_group(self) -> None:
        log = [started("1/primary/1"), started("1/primary/2"), done("1/primary/1"), failed("1/primary/2", "1/primary")]

        assert after(self.first, *log) == "back 1/primary"
        log += [back("1/primary")]
        assert branches(self.first, *log) == ["undo 1/primary/1 #1 DONE", "undo 1/primary/2 #1 UNKNOWN"]
        log += [*undo_done("1/primary/1"), *undo_done("1/primary/2")]
        assert after(self.first, *log) == "act 1/fallback #1"

    def test_a_step_that_ends_well_after_the_failure_is_undone_before_the_fallback_acts(self) -> None:
        log = [started("1/primary/1"), started("1/primary/2"), refused("1/primary/2", "1/primary"), back("1/primary")]

        assert after(self.first, *log, done("1/primary/1")) == "fork undo 1/primary"

    def test_a_done_group_needs_no_fallback(self) -> None:
        assert after(self.first, *finished("1/primary/1"), *finished("1/primary/2")) == "COMPLETED"

    def test_a_group_may_take_over(self) -> None:
        log = [started("1/primary"), refused("1/primary", "1/primary"), back("1/primary")]

        assert branches(self.last, *log) == ["act 1/fallback/1 #1", "act 1/fallback/2 #1"]
        assert after(self.last, *log, *finished("1/fallback/1"), *finished("1/fallback/2")) == "COMPLETED"

    def test_a_group_that_took_over_and_failed_sends_the_saga_back(self) -> None:
        log = [started("1/primary"), refused("1/primary", "1/primary"), back("1/primary")]
        log += [*finished("1/fallback/1"), started("1/fallback/2"), failed("1/fallback/2")]

        assert after(self.last, *log) == "back"
        assert branches(self.last, *log, back()) == ["undo 1/fallback/1 #1 DONE", "undo 1/fallback/2 #1 UNKNOWN"]
