"""Defects of Fallbacks and Parallels, put in by hand: each must turn the runs of sagas with branches red."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from point_runs import InMemory, crash_problems, every_point
from point_trees import TREES

from anysaga import _decisions, _endings, _folding
from anysaga._decisions import Decision
from anysaga._nodes import FallbackNode, Leaf, Node
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind

pytestmark = pytest.mark.anyio
Patch = pytest.MonkeyPatch


def the_primary_is_not_undone(patch: Patch) -> None:
    forward = _decisions._forward

    def hasty(progress: Progress, node: Node) -> Decision:
        if isinstance(node, FallbackNode) and node.primary.path in progress.back:
            return hasty(progress, node.fallback)
        return forward(progress, node)

    patch.setattr(_decisions, "_forward", hasty)


def the_context_is_put_back_before_the_undo(patch: Patch) -> None:
    back = _folding._FOLDS[EntryKind.BACK]

    def early(progress: Progress, entry: Entry) -> None:
        back(progress, entry)
        path = entry.path.rpartition("/")[0]
        if path in progress.snapshots:
            progress.base = progress.current = progress.snapshots[path]

    patch.setitem(_folding._FOLDS, EntryKind.BACK, early)


def the_context_is_not_put_back(patch: Patch) -> None:
    enter = _folding._enter

    def forgetful(progress: Progress, leaf: Leaf) -> None:
        base, current = progress.base, progress.current
        enter(progress, leaf)
        progress.base, progress.current = base, current

    patch.setattr(_folding, "_enter", forgetful)


def a_write_of_a_sibling_is_lost(patch: Patch) -> None:
    patch.setattr(_folding, "merge", lambda origin, whole, mine: mine)


def what_falls_back_is_forgotten_in_a_crash(patch: Patch) -> None:
    failed = _folding._FOLDS[EntryKind.UNKNOWN]

    def again(progress: Progress, entry: Entry) -> None:
        failed(progress, entry)
        if entry.fence != progress.fence:
            progress.of(entry.path).caught = None

    patch.setitem(_folding._FOLDS, EntryKind.UNKNOWN, again)


def nothing_falls_back(patch: Patch) -> None:
    patch.setattr(_endings.Endings, "_catcher", lambda *_: None)


DEFECTS: list[Callable[[Patch], None]] = [
    the_primary_is_not_undone,
    the_context_is_put_back_before_the_undo,
    the_context_is_not_put_back,
    a_write_of_a_sibling_is_lost,
    what_falls_back_is_forgotten_in_a_crash,
    nothing_falls_back,
]


async def is_red() -> bool:
    """Whether any tree breaks a law, undisturbed or with one crash, or the engine refuses to go on."""
    for shape in TREES:
        try:
            if await crash_problems(shape, InMemory, every_point):
                return True
        except Exception:  # noqa: BLE001 - a defect that makes the engine stumble is seen, too
            return True
    return False


async def test_without_a_defect_the_sweep_is_green() -> None:
    """Otherwise the next test would say nothing."""
    assert not await is_red()


@pytest.mark.parametrize("defect", DEFECTS)
async def test_the_suite_finds_the_defect(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    defect(monkeypatch)

    assert await is_red()
