"""What is plain to see of functions that others will call.

Ground floor: imports nothing of ours.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any


def is_plain(function: object) -> bool:
    """Whether this is called and answers: an async function only gives a coroutine, which counts as true."""
    return callable(function) and not inspect.iscoroutinefunction(function)


def has_yield(function: Any) -> bool:
    """Whether calling a function only makes a generator, and does nothing of what is written in it."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def takes(function: FunctionType, count: int) -> bool:
    """Whether a function can be called with so many positional arguments, and no others."""
    code, by_name = function.__code__, function.__kwdefaults__ or {}
    required = code.co_argcount - len(function.__defaults__ or ())
    takes_more = bool(code.co_flags & inspect.CO_VARARGS)
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return required <= count and (takes_more or count <= code.co_argcount) and all(name in by_name for name in names)
