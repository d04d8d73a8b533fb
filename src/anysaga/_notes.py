"""What is said beside the errors of others, which stay what they are. Some are frozen, and let nothing be said.

A frozen dataclass that is an exception refuses even what Python itself keeps there, with an error of its own; that one
must neither take the place of the other nor stop a saga.
"""

from __future__ import annotations

from contextlib import suppress

_keep = BaseException.__setattr__  # passes by what a class of its own makes of it


def add_note(error: BaseException, text: str) -> None:
    """Add a note, if there is any way to."""
    try:
        error.add_note(text)
    except Exception:  # noqa: BLE001 - whatever such a class says
        notes = getattr(error, "__notes__", [])
        if isinstance(notes, list):
            with suppress(Exception):
                _keep(error, "__notes__", [*notes, text])


def add_context(error: BaseException, earlier: BaseException) -> None:
    """Have an error, or the first of those that led to it, show an earlier one as its context."""
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:
        error = error.__context__
        seen.add(id(error))
    if error.__context__ is None and id(earlier) not in seen:
        _keep(error, "__context__", earlier)
