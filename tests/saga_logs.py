"""Short words for logs: entries by name, and what is decided after them."""

from __future__ import annotations

from saga_model import Plan, PlannedStep, Undoing
from saga_play import definition_of, fold

from anysaga._decisions import Decision, decide
from anysaga._progress import Progress
from anysaga._records import Entry, EntryKind, Outcome

PLAIN = PlannedStep()
PIVOT = PlannedStep(Undoing.PIVOT)
READ_ONLY = PlannedStep(Undoing.READ_ONLY)
RETRIED = PlannedStep(retry=3)
PROBED = PlannedStep(probes=True)
PROBED_PIVOT = PlannedStep(Undoing.PIVOT, probes=True)


def started(path: str = "1", attempt: int = 1, fence: int = 1) -> Entry:
    return Entry(EntryKind.STARTED, path, attempt=attempt, fence=fence)


def saved(path: str, context: str) -> Entry:
    return Entry(EntryKind.CHECKPOINT, path, context=context)


def done(path: str = "1", context: str | None = None) -> Entry:
    return Entry(EntryKind.DONE, path, context=context)


def not_done(path: str = "1", wait: float | None = None, context: str | None = None, at: int = 0) -> Entry:
    return Entry(EntryKind.NOT_DONE, path, wait=wait, context=context, error="no funds", at=at)


def unknown(path: str = "1", wait: float | None = None, context: str | None = None, at: int = 0) -> Entry:
    return Entry(EntryKind.UNKNOWN, path, wait=wait, context=context, error="no answer", at=at)


def withdrawn(path: str = "1") -> Entry:
    return Entry(EntryKind.WITHDRAWN, path)


def probed(outcome: Outcome, path: str = "1") -> Entry:
    return Entry(EntryKind.PROBED, path, outcome=outcome)


def back(cause: str = "no answer") -> Entry:
    return Entry(EntryKind.BACK, error=cause)


def undo_started(path: str = "1", attempt: int = 1, fence: int = 1) -> Entry:
    return Entry(EntryKind.UNDO_STARTED, path, attempt=attempt, fence=fence)


def undone(path: str = "1", context: str | None = None) -> Entry:
    return Entry(EntryKind.UNDONE, path, context=context)


def undo_failed(path: str = "1", wait: float | None = 1.0, at: int = 0) -> Entry:
    return Entry(EntryKind.UNDO_FAILED, path, wait=wait, error="out of order", at=at)


def parked(path: str = "1", reason: str = "in doubt") -> Entry:
    return Entry(EntryKind.PARKED, path, error=reason)


def resolved(outcome: Outcome, path: str = "1") -> Entry:
    return Entry(EntryKind.RESOLVED, path, outcome=outcome)


def retried(path: str = "1") -> Entry:
    return Entry(EntryKind.RETRIED, path)


def finished(path: str, context: str | None = None) -> list[Entry]:
    """A step that began and is done."""
    return [started(path), done(path, context)]


def after(steps: list[PlannedStep], *entries: Entry, fence: int = 1, goes_on: bool = False) -> Decision:
    """What comes next for a saga of these steps after this log, for the owner with this fence."""
    return decide(folded(steps, *entries, fence=fence, goes_on=goes_on))


def folded(steps: list[PlannedStep], *entries: Entry, fence: int = 1, goes_on: bool = False) -> Progress:
    """What this log says."""
    return fold(definition_of(Plan(tuple(steps), goes_on)), list(entries), fence)


def said(decision: Decision) -> str:
    """A decision in short: ``act 1 #2``, ``undo 3 #1 UNKNOWN``, ``park 2``."""
    words = {
        "Act": "act {0.leaf.path} #{0.attempt}",
        "Compensate": "undo {0.leaf.path} #{0.attempt} {0.outcome}",
        "Probe": "probe {0.leaf.path}",
        "Back": "back",
        "GiveUp": "give up {0.leaf.path}",
        "Park": "park {0.path}",
        "Finish": "{0.state}",
    }
    return words[type(decision).__name__].format(decision)
