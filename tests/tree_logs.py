"""Short words for logs of Fallbacks and Parallels, and what is decided after them."""

from __future__ import annotations

from saga_logs import PIVOT, PLAIN, PROBED, RETRIED, undo_started, undone
from saga_play import step_of
from tree_play import fold_tree

from anysaga._decisions import Decision, Fork, ForkUndo, decide, decide_branch, decide_undo
from anysaga._definition import Definition
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind

A, B, C, D = (step_of(PLAIN, name) for name in "abcd")
RETRIED_A, RETRIED_B = (step_of(RETRIED, name) for name in "ab")
RETRIED_C = step_of(RETRIED, "c")
PROBED_A = step_of(PROBED, "a")
PIVOT_P = step_of(PIVOT, "p")


def back(path: str = "") -> Entry:
    return Entry(EntryKind.BACK, path, error="no answer")


def refused(path: str, caught: str | None = None, wait: float | None = None, context: str | None = None) -> Entry:
    """A failure that certainly had no effect."""
    return Entry(EntryKind.NOT_DONE, path, caught=caught, wait=wait, context=context, error="no funds")


def failed(path: str, caught: str | None = None, wait: float | None = None, context: str | None = None) -> Entry:
    """A failure of which nobody knows whether it had an effect."""
    return Entry(EntryKind.UNKNOWN, path, caught=caught, wait=wait, context=context, error="no answer")


def undo_done(path: str, context: str | None = None) -> list[Entry]:
    return [undo_started(path), undone(path, context)]


def folded(definition: Definition, *log: Entry, fence: int = 1) -> Progress:
    return fold_tree(definition, log, fence)


def after(definition: Definition, *log: Entry, fence: int = 1) -> str:
    """What comes next, in short: ``act 1/primary #1``, ``undo 2 #1 UNKNOWN``, ``back 1/primary``, ``fork 3``."""
    return said(decide(folded(definition, *log, fence=fence)))


def said(decision: Decision | None) -> str:
    words = {
        "NoneType": "-",
        "Act": "act {0.leaf.path} #{0.attempt}",
        "Compensate": "undo {0.leaf.path} #{0.attempt} {0.outcome}",
        "Probe": "probe {0.leaf.path}",
        "Back": "back {0.path}",
        "GiveUp": "give up {0.leaf.path}",
        "Fork": "fork {0.node.path}",
        "ForkUndo": "fork undo {0.node.path}",
        "Park": "park {0.path}",
        "Finish": "{0.state}",
    }
    return words[type(decision).__name__].format(decision).strip()


def branches(definition: Definition, *log: Entry, fence: int = 1) -> list[str]:
    """What comes next for each branch of the Parallel that runs, or is undone, after this log."""
    progress = folded(definition, *log, fence=fence)
    match decide(progress):
        case Fork(node):
            return [said(decide_branch(progress, child)) for child in node.children]
        case ForkUndo(node):
            return [said(decide_undo(progress, child)) for child in node.children]
        case decision:
            raise AssertionError(said(decision))
