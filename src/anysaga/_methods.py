"""A step's own methods: whether the engine can call them, with the context and nothing else, and in what way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any

from anysaga._signatures import has_yield, takes
from anysaga._step import Step, defines

_METHODS = ("act", "compensate", "probe")


def method_problems(kind: type[Step[Any, Any]]) -> Iterator[str]:
    """What is wrong with the methods that a step class defines itself.

    Only what is plain to see: of callables that are no functions of Python nothing is said.
    """
    for name in _METHODS:
        if not defines(kind, name):
            continue
        method = inspect.getattr_static(kind, name)
        is_static = isinstance(method, staticmethod)
        function = method.__func__ if isinstance(method, staticmethod | classmethod) else method
        if not callable(function) and not hasattr(function, "__get__"):
            yield f"its `{name}` is no function: write `def {name}(self, context)`"
        elif has_yield(function):
            yield f"its `{name}` has a `yield`, so that calling it does nothing: return a value instead"
        elif isinstance(function, FunctionType) and not takes(function, 1 if is_static else 2):
            yield f"its `{name}` cannot be called with the context alone: write `def {name}(self, context)`"


def leftover_problems(kind: type[Step[Any, Any]]) -> Iterator[str]:
    """What a step class still has of python-cqrs.

    The one would be missed when `act` has had its effect, so that the saga went back; the other one never.
    """
    if not hasattr(kind, "_generate_step_result") and "_generate_step_result" in _names_in(kind, "act"):
        yield "its `act` calls `self._generate_step_result`, which is of python-cqrs: return the response itself"
    if isinstance(inspect.getattr_static(kind, "events", None), property):
        yield (
            "it has a property `events`, as with python-cqrs, which nobody reads here: call "
            "`current_step().record(event)` in `act` (give the property another name if it is something else)"
        )
    yield from retry_leftovers(kind)


def retry_leftovers(kind: type) -> Iterator[str]:
    """The retries of python-cqrs, on a step class or on that of a saga: they would be passed over without a word."""
    left = [name for name in ("count", "delay", "backoff") if hasattr(kind, f"compensation_retry_{name}")]
    if left:
        yield (
            f"`compensation_retry_{left[0]}` is of python-cqrs: write `compensate_retry = Retry(attempts=3, delay=1.0, "
            "backoff=2.0)`"
        )


def _names_in(kind: type, method: str) -> tuple[str, ...]:
    """The names of globals and attributes that a method uses, as far as that is plain to see."""
    function = inspect.getattr_static(kind, method)
    return function.__code__.co_names if isinstance(function, FunctionType) else ()


def is_async(method: Callable[..., Any]) -> bool:
    """Whether calling this method gives a coroutine; anything else is called in a worker thread."""
    return _is_coroutine_function(getattr(method, "__func__", method))


@lru_cache(maxsize=4096)
def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)
