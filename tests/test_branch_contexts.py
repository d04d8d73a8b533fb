"""Which context each branch of a saga sees: C1 and C2, one law at a time."""

from __future__ import annotations

import json

from saga_logs import done, finished, saved, started, undo_failed, undo_started, undone
from tree_logs import RETRIED_C, A, B, C, D, back, failed, folded, refused, undo_done
from tree_play import tree_of

from anysaga._composites import Fallback, Parallel
from anysaga._progress import Progress
from anysaga._records import Entry


class TestContextOfAFallback:
    """C1: it starts from the context that the primary started from."""

    tree = tree_of(A, Fallback(B, RETRIED_C), D)

    def progress(self, *log: Entry) -> Progress:
        return folded(self.tree, started("1"), done("1", '{"a":1}'), *log)

    fell_back = [
        started("2/primary"),
        saved("2/primary", '{"a":1,"half":1}'),
        failed("2/primary", "2/primary", context='{"a":1,"b":1}'),
        back("2/primary"),
    ]

    def test_the_undo_of_the_primary_sees_what_the_primary_wrote(self) -> None:
        assert self.progress(*self.fell_back).current == '{"a":1,"b":1}'

    def test_it_is_put_back_in_place_once_the_fallback_begins(self) -> None:
        undo = undo_done("2/primary", '{"a":1,"b":1,"undone":1}')
        progress = self.progress(*self.fell_back, *undo)
        assert progress.current == '{"a":1,"b":1,"undone":1}'

        progress = self.progress(*self.fell_back, *undo, started("2/fallback"))
        assert (progress.base, progress.current) == ('{"a":1}', '{"a":1}')

    def test_a_second_attempt_of_the_fallback_starts_from_its_own_checkpoint(self) -> None:
        log = [*self.fell_back, *undo_done("2/primary"), started("2/fallback"), saved("2/fallback", '{"a":1,"c":0}')]
        log += [failed("2/fallback", wait=1.0), started("2/fallback", 2)]

        assert self.progress(*log).base == '{"a":1,"c":0}'

    def test_so_it_does_where_the_primary_never_began(self) -> None:
        """As where a circuit is open."""
        log = [back("2/primary"), started("2/fallback"), saved("2/fallback", '{"a":1,"c":0}')]
        log += [failed("2/fallback", wait=1.0), started("2/fallback", 2)]

        assert self.progress(*log).base == '{"a":1,"c":0}'

    def test_what_the_fallback_did_is_what_the_next_step_sees(self) -> None:
        log = [*self.fell_back, *undo_done("2/primary"), started("2/fallback"), done("2/fallback", '{"a":1,"c":1}')]

        assert self.progress(*log).base == '{"a":1,"c":1}'

    def test_what_a_group_has_merged_already_is_forgotten(self) -> None:
        tree = tree_of(Fallback(Parallel(A, B), C))
        log = [started("1/primary/1"), started("1/primary/2"), done("1/primary/1", '{"a":1}')]
        log += [failed("1/primary/2", "1/primary"), back("1/primary"), *undo_done("1/primary/1")]
        log += undo_done("1/primary/2")
        assert folded(tree, *log).base == '{"a":1}'

        progress = folded(tree, *log, started("1/fallback"))
        assert (progress.base, progress.current) == ("{}", "{}")

    def test_nested_fallbacks_all_start_from_the_same_context(self) -> None:
        tree = tree_of(Fallback(Fallback(A, B), C))
        inner, then = "1/primary/primary", "1/primary/fallback"
        log = [started(inner), saved(inner, '{"a":1}'), refused(inner, inner), back(inner), started(then)]
        assert folded(tree, *log).base == "{}"

        log += [saved(then, '{"b":1}'), refused(then, "1/primary"), back("1/primary"), started("1/fallback")]
        assert folded(tree, *log).base == "{}"

    def test_in_a_branch_only_the_copy_is_put_back(self) -> None:
        tree = tree_of(Parallel(Fallback(A, B), C))
        log = [started("1/1/primary"), started("1/2"), saved("1/1/primary", '{"a":1}'), done("1/2", '{"c":1}')]
        log += [refused("1/1/primary", "1/1/primary"), back("1/1/primary"), started("1/1/fallback")]
        progress = folded(tree, *log)

        assert progress.copies["1/1"].base == "{}"
        assert progress.base == '{"c":1}'


class TestContextOfBranches:
    """C2: each acts on a copy, and what it changed is merged when it is done."""

    tree = tree_of(A, Parallel(B, C), D)
    before = [started("1"), done("1", '{"a":1}')]
    group_done = [
        *before,
        started("2/1"),
        started("2/2"),
        done("2/1", '{"a":1,"b":1}'),
        done("2/2", '{"a":1,"c":1}'),
    ]

    def test_a_branch_begins_with_the_context_of_the_group(self) -> None:
        log = [*self.before, started("2/1"), done("2/1", '{"a":1,"b":1}'), started("2/2")]

        assert folded(self.tree, *log).copies["2/2"].base == '{"a":1}'

    def test_a_branch_that_is_done_is_merged(self) -> None:
        log = self.group_done[:-1]

        assert folded(self.tree, *log).base == '{"a":1,"b":1}'
        assert folded(self.tree, *self.group_done).base == '{"a":1,"b":1,"c":1}'

    def test_the_checkpoint_of_a_branch_stays_in_its_copy(self) -> None:
        progress = folded(self.tree, *self.before, started("2/1"), started("2/2"), saved("2/1", '{"a":1,"b":0}'))

        assert progress.copies["2/1"].base == '{"a":1,"b":0}'
        assert (progress.base, progress.copies["2/2"].base) == ('{"a":1}', '{"a":1}')

    def test_what_a_failed_branch_wrote_is_seen_by_its_own_undo(self) -> None:
        log = [*self.before, started("2/1"), started("2/2"), failed("2/1", context='{"a":1,"b":1}'), back()]
        progress = folded(self.tree, *log, undo_started("2/1"))

        assert progress.copies["2/1"].current == '{"a":1,"b":1}'

    def test_an_act_that_was_lost_is_undone_in_its_last_durable_context(self) -> None:
        log = [*self.before, started("2/1"), saved("2/1", '{"a":1,"b":0}'), failed("2/1", wait=1.0, context='{"b":9}')]
        log += [started("2/1", 2), back()]

        assert folded(self.tree, *log, fence=2).copies["2/1"].current == '{"a":1,"b":0}'

    def test_an_undo_sees_what_became_of_the_context_since_its_branch_was_merged(self) -> None:
        log = [*self.group_done, started("3"), done("3", '{"a":1,"b":1,"c":1,"d":1}'), back(), *undo_done("3")]
        progress = folded(self.tree, *log, undo_started("2/1"))

        assert progress.copies["2/1"].current == '{"a":1,"b":1,"c":1,"d":1}'

    def test_what_undos_of_branches_wrote_is_merged(self) -> None:
        log = [*self.group_done, back(), undo_started("2/1"), undo_started("2/2")]
        log += [undone("2/1", '{"a":1,"b":null,"c":1}'), undone("2/2", '{"a":1,"b":1,"c":null}')]

        assert json.loads(folded(self.tree, *log).current) == {"a": 1, "b": None, "c": None}

    def test_what_an_undo_in_an_unfinished_group_wrote_is_merged(self) -> None:
        log = [*self.before, started("2/1"), failed("2/1"), back(), *undo_done("2/1", '{"a":1,"undone":1}')]

        assert folded(self.tree, *log).current == '{"a":1,"undone":1}'

    def test_a_repeated_undo_starts_from_the_context_before_its_first_attempt(self) -> None:
        log = [*self.group_done, back(), undo_started("2/1"), undo_started("2/2"), undone("2/2", '{"a":1,"c":null}')]
        progress = folded(self.tree, *log, undo_failed("2/1"), undo_started("2/1", 2))

        assert progress.copies["2/1"].current == '{"a":1,"b":1,"c":1}'

    def test_a_branch_that_ends_well_after_its_group_went_back_is_not_merged(self) -> None:
        log = [*self.before, started("2/1"), started("2/2"), failed("2/2"), back(), done("2/1", '{"a":1,"b":1}')]
        progress = folded(self.tree, *log)

        assert (progress.base, progress.current) == ('{"a":1}', '{"a":1}')
        assert progress.copies["2/1"].current == '{"a":1,"b":1}'

    def test_the_context_of_an_open_step_of_another_branch_survives_a_back_inside_one(self) -> None:
        tree = tree_of(Parallel(Fallback(A, B), RETRIED_C))
        log = [started("1/1/primary"), started("1/2"), failed("1/2", wait=1.0, context='{"c":1}'), started("1/2", 2)]
        log += [refused("1/1/primary", "1/1/primary"), back("1/1/primary")]

        assert folded(tree, *log).copies["1/2"].current == '{"c":1}'


class TestContextOfAFallbackInABranch:
    """A primary that is undone inside a branch concerns that branch alone."""

    tree = tree_of(Parallel(Fallback(A, B), C), D)
    fell_back = [
        started("1/1/primary"),
        started("1/2"),
        failed("1/1/primary", "1/1/primary", context='{"a":1}'),
        back("1/1/primary"),
        *undo_done("1/1/primary", '{"a":1,"undone":1}'),
    ]
    group_done = [*fell_back, started("1/1/fallback"), done("1/1/fallback", '{"b":1}'), done("1/2", '{"c":1}')]

    def test_what_its_undo_wrote_stays_in_the_branch(self) -> None:
        assert folded(self.tree, *self.fell_back).current == "{}"

    def test_it_is_not_merged(self) -> None:
        assert folded(self.tree, *self.group_done).base == '{"b":1,"c":1}'

    def test_the_undo_of_the_fallback_sees_the_merged_context(self) -> None:
        log = [*self.group_done, started("2"), done("2", '{"b":1,"c":1,"d":1}'), back(), *undo_done("2")]
        progress = folded(self.tree, *log, undo_started("1/1/fallback"))

        assert progress.copies["1/1"].current == '{"b":1,"c":1,"d":1}'

    def test_the_undo_of_the_fallback_changes_nothing_but_what_it_wrote(self) -> None:
        log = [*self.group_done, started("2"), done("2", '{"b":2,"c":1}'), back(), *undo_done("2")]
        log += undo_done("1/1/fallback", '{"b":2,"c":1,"e":1}')

        assert folded(self.tree, *log).current == '{"b":2,"c":1,"e":1}'

    def test_an_undo_is_merged_once(self) -> None:
        """A second undo in the same branch does not bring back what another branch has changed since."""
        tree = tree_of(Parallel(Fallback(Parallel(A, B), C), D))
        log = [*finished("1/1/primary/1"), *finished("1/1/primary/2"), started("1/2"), failed("1/2"), back()]
        log += [undo_started("1/1/primary/1"), undo_started("1/1/primary/2"), undo_started("1/2")]
        log += [undone("1/1/primary/1", '{"last":"a"}'), undone("1/2", '{"last":"d"}'), undone("1/1/primary/2")]

        assert folded(tree, *log).current == '{"last":"d"}'
