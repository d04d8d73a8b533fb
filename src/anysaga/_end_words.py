"""What is said about the end of a saga that did not complete: to its caller, and in its log."""

from __future__ import annotations

from anysaga._errors import SagaCompensated, SagaParked
from anysaga._nodes import ROOT
from anysaga._notes import add_note
from anysaga._progress import Progress


def end_error(progress: Progress, saga_id: str, error: BaseException | None) -> BaseException:
    """What the caller is told about a saga that is undone or parked. `error` is why, if that is known here."""
    name = progress.definition.name
    if progress.parked is not None:
        path, reason = progress.parked
        parked = SagaParked(name, saga_id, progress.definition.name_at(path), reason)
        parked.__cause__ = error
        return parked
    if error is None:
        return SagaCompensated(name, saga_id, progress.back.get(ROOT, ""))
    add_note(error, note_on_undo(progress, saga_id))
    return error


def note_on_undo(progress: Progress, saga_id: str) -> str:
    """The sentence that is added to the error of a saga that went back."""
    done = progress.undone
    undone = f"undone: {', '.join(done)}" if done else "nothing had to be undone"
    return f"saga {progress.definition.name!r} ({saga_id}) went back, {undone}"


def words_of_cancellation(error: BaseException) -> str:
    """Why a saga goes back that was cut short by what is no `Exception`."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted by Ctrl-C"
    return "cancelled by its caller" if not isinstance(error, SystemExit) else "the process was asked to exit"
