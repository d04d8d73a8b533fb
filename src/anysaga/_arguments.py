"""What many arguments have to be."""

from __future__ import annotations

from typing import TypeGuard

from anysaga._errors import InvalidArgument


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_seconds(**spans: float) -> None:
    """Raise `InvalidArgument` for the first that is no span of time above 0."""
    for name, seconds in spans.items():
        if not is_number(seconds) or not seconds > 0:
            raise InvalidArgument(name, seconds, "it is a number of seconds above 0")


def check_counts(**counts: object) -> None:
    """Raise `InvalidArgument` for the first that is no whole number of 1 or more."""
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise InvalidArgument(name, count, "give a whole number, 1 or more")
