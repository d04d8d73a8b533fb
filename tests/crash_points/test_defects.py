"""Defects put in by hand: each must turn the crash suite red, or the suite shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from point_runs import InMemory, crash_problems, every_point
from point_shapes import FailsAtTheEnd, HasAPivot, RetriesWell, SavesInTheMiddle, UndoneWithTrouble, Well
from test_zombies import zombie_problems

from anysaga import _decisions, _driver, _progress, _stepping
from anysaga._driver import Driver
from anysaga._journal import Journal
from anysaga._lane import Lane
from anysaga._live_context import LiveContext
from anysaga._nodes import Leaf
from anysaga._progress import StepProgress
from anysaga._records import EntryKind, Outcome, SagaState
from anysaga.storages._shelf import Shelf, StoredSaga

pytestmark = pytest.mark.anyio
SHAPES = [Well, FailsAtTheEnd, RetriesWell, SavesInTheMiddle, UndoneWithTrouble, HasAPivot]
Patch = pytest.MonkeyPatch


def intent_after_the_act(patch: Patch) -> None:
    async def prepare(self: Lane, decision: _decisions.Act) -> bool:
        if not decision.intent_written:
            if self.journal.pending:
                await self.journal.commit()
            if self.stepping.run.fresh:
                return True
            self.intend(decision)
        return True

    patch.setattr(Lane, "prepare", prepare)
    patch.setattr(Driver, "plan_first", lambda _: None)


def undo_before_its_intent_is_durable(patch: Patch) -> None:
    async def compensate(self: Lane, decision: _decisions.Compensate) -> None:
        self.journal.note(EntryKind.UNDO_STARTED, decision.leaf.path, attempt=decision.attempt)
        await self.stepping.compensate(decision)

    patch.setattr(Lane, "_compensate", compensate)


def context_is_not_restored(patch: Patch) -> None:
    patch.setattr(LiveContext, "bring_to", lambda *_: None)


def context_of_a_done_step_is_dropped(patch: Patch) -> None:
    note = Journal.note

    def forgetful(self: Journal, kind: EntryKind, path: str = "", **fields: Any) -> None:
        note(self, kind, path, **{**fields, "context": None} if kind is EntryKind.DONE else fields)

    patch.setattr(Journal, "note", forgetful)


def undo_goes_forward(patch: Patch) -> None:
    def forwards(progress: _progress.Progress) -> _decisions.Decision:
        undos = (_decisions.decide_undo(progress, node) for node in progress.definition.steps)
        return next((undo for undo in undos if undo is not None), None) or _decisions._all_undone(progress)

    patch.setattr(_decisions, "_backward", forwards)


def unknown_steps_are_not_undone(patch: Patch) -> None:
    def waits(self: StepProgress, leaf: Leaf) -> bool:
        return self.outcome is Outcome.DONE and not self.undone and not leaf.read_only

    patch.setattr(StepProgress, "waits_for_undo", waits)


def keys_change_with_each_attempt(patch: Patch) -> None:
    numbers = count()
    patch.setattr(_stepping, "key_of", lambda saga_id, path, verb: f"{saga_id}-{next(numbers)}:{path}:{verb}")


def completed_before_the_last_step(patch: Patch) -> None:
    decide = _decisions.decide

    def hasty(progress: _progress.Progress) -> _decisions.Decision:
        if not progress.going_back and progress.position == len(progress.definition.steps) - 1:
            return _decisions.Finish(SagaState.COMPLETED)
        return decide(progress)

    patch.setattr(_driver, "decide", hasty)


def a_pivot_is_undone(patch: Patch) -> None:
    def anyway(progress: _progress.Progress, _: Leaf, cause: str) -> _decisions.Decision:
        return _decisions.Back("", cause)

    def act(self: Any, leaf: Leaf, attempt: int) -> Any:
        raise AssertionError(leaf, attempt)

    patch.setattr(_decisions, "_give_up", anyway)
    patch.setattr(_decisions, "may_act_again", lambda *_: False)
    patch.setattr(_decisions, "Park", lambda *_: _decisions.Back("", "a pivot in doubt"))


def a_claim_does_not_raise_the_fence(patch: Patch) -> None:
    def take(self: StoredSaga, owner: Any, now: int) -> Any:
        self.fence = 0
        return original(self, owner, now)

    original = StoredSaga.take
    patch.setattr(StoredSaga, "take", take)


def the_fence_is_not_checked(patch: Patch) -> None:
    def record(self: Shelf, write: Any) -> int:
        saga = self.get(write.saga_id)
        now = self.clock.now()
        saga.append(write.entries, now)
        saga.state = write.state
        if write.frees:
            saga.free()
        return now

    patch.setattr(Shelf, "record", record)


def an_acknowledged_write_is_lost(patch: Patch) -> None:
    original = Shelf.record

    def record(self: Shelf, write: Any) -> int:
        if write.state is SagaState.COMPENSATING:
            return self.clock.now()
        return original(self, write)

    patch.setattr(Shelf, "record", record)


DEFECTS: list[Callable[[Patch], None]] = [
    intent_after_the_act,
    undo_before_its_intent_is_durable,
    context_is_not_restored,
    context_of_a_done_step_is_dropped,
    undo_goes_forward,
    unknown_steps_are_not_undone,
    keys_change_with_each_attempt,
    completed_before_the_last_step,
    a_pivot_is_undone,
    a_claim_does_not_raise_the_fence,
    the_fence_is_not_checked,
    an_acknowledged_write_is_lost,
]


async def is_red() -> bool:
    """Whether any shape breaks a law, undisturbed, with one crash or with a zombie, or the engine refuses to go on."""
    for shape in SHAPES:
        try:
            if await crash_problems(shape, InMemory, every_point) or await zombie_problems(shape):
                return True
        except Exception:  # noqa: BLE001 - a defect that makes the engine stumble is seen, too
            return True
    return False


async def test_without_a_defect_the_sweep_is_green() -> None:
    """Otherwise the next test would say nothing."""
    assert not await is_red()


@pytest.mark.parametrize("defect", DEFECTS)
async def test_the_suite_finds_the_defect(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """A broken engine is seen by the same runs that a sound one passes."""
    defect(monkeypatch)

    assert await is_red()
