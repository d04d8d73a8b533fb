"""What many arguments have to be."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TypeGuard

import anyio

from anysaga._errors import InvalidArgument
from anysaga._limits import MAX_NAME


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_name(value: object) -> TypeGuard[str]:
    """Whether this is a text that every store can keep as the name of something."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


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


def check_backend(backend: object) -> None:
    """Raise `InvalidArgument` for what is no event loop, or one that is not installed."""
    if not isinstance(backend, str) or backend not in anyio.get_all_backends() or find_spec(backend) is None:
        raise InvalidArgument("backend", backend, 'give "asyncio" or "trio"; the latter needs the package trio')


def check_texts(**texts: object) -> None:
    """Raise `InvalidArgument` for the first that is no text."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise InvalidArgument(name, text, "give a text")
