"""What is wrong with the steps of a saga, as they are declared, in words that say what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from anysaga._arguments import is_name, is_number
from anysaga._compilation import is_step, parts_of, step_name
from anysaga._composites import Fallback, Parallel
from anysaga._guard import Breaker
from anysaga._limits import MAX_NAME, MAX_SECONDS
from anysaga._methods import leftover_problems, method_problems
from anysaga._retry import Retry
from anysaga._step import defines, step_type

MAX_DEPTH = 8
"""How deep Fallbacks and Parallels may be nested."""


def is_too_deep(part: object, levels: int) -> bool:
    if not isinstance(part, Fallback | Parallel):
        return False
    return levels == 0 or any(is_too_deep(each, levels - 1) for each in parts_of(part))


def composite_problems(parts: Iterable[object], depth: int = 0) -> Iterator[str]:
    for part in parts:
        if depth and is_step(part) and getattr(part, "pivot", False):
            yield (
                f"step {step_name(part)!r} is a pivot inside a Fallback or a Parallel: a point of no return "
                "is never undone, so it stands by itself in `steps`"
            )
        if isinstance(part, Fallback | Parallel):
            yield from _fallback_problems(part) if isinstance(part, Fallback) else _parallel_problems(part)
            yield from composite_problems(parts_of(part), depth + 1)


def _fallback_problems(part: Fallback) -> Iterator[str]:
    if part.step is part.fallback:
        yield f"a Fallback falls back to itself ({_describe(part.step)}): name another step as its `fallback`"
    breaker: object = part.circuit_breaker
    if breaker is not None and (isinstance(breaker, type) or not isinstance(breaker, Breaker)):
        yield f"circuit_breaker={breaker!r} is no breaker: give a CircuitBreaker(...)"
    kinds = part.failure_exceptions
    if not isinstance(kinds, tuple) or not all(_is_exception(one) for one in kinds):
        yield "`failure_exceptions` of a Fallback must be a tuple of exception types, such as `(ConnectionError,)`"
    elif not all(issubclass(kind, Exception) for kind in kinds):
        yield "`failure_exceptions` of a Fallback cannot hold cancellations and the like: they never fall back"


def _parallel_problems(part: Parallel) -> Iterator[str]:
    if not part.steps:
        yield "a Parallel has no steps: name them, as in `Parallel(BookHotel, BookFlight)`"
    limit = part.limit
    if limit is not None and (type(limit) is not int or limit < 1):
        yield f"limit={limit!r} of a Parallel must be a whole number, 1 or more; None sets no limit"
    if any(isinstance(each, Parallel) for each in part.steps):
        yield "a Parallel stands directly inside a Parallel: list its steps in the outer one"


def step_problems(steps: Sequence[object]) -> Iterator[str]:
    names: set[str] = set()
    for step in steps:
        if not is_step(step):
            yield (
                f"{step!r} is no step: list subclasses of anysaga.Step, or instances of them, anysaga.Fallback(...) or "
                "anysaga.Parallel(...)"
            )
            continue
        name = step_name(step)
        if name in names:
            yield f"two steps are named {name!r}: give one of them another `name`"
        names.add(name)
        yield from (f"step {name!r}: {problem}" for problem in _single_step_problems(step))


def _single_step_problems(step: Any) -> Iterator[str]:
    kind = step_type(step)
    if not isinstance(step.name, str) or not is_name(step_name(step)):
        yield f"its name must be a text of at most {MAX_NAME} printable characters"
    if not defines(kind, "act"):
        yield "it does not define `act`"
    yield from method_problems(kind)
    yield from leftover_problems(kind)
    if not (defines(kind, "compensate") or step.pivot or step.read_only):
        yield (
            "it says nothing about undoing: define `compensate`, or say `pivot = True` (a point of no return) "
            "or `read_only = True` (nothing to undo)"
        )
    for mark in ("pivot", "read_only", "atomic"):
        if not isinstance(getattr(step, mark), bool):
            yield f"{mark}={getattr(step, mark)!r} must be True or False"
    if step.pivot and step.read_only:
        yield "it cannot be both `pivot` and `read_only`: a step without effect is no point of no return"
    yield from span_problems("timeout", step.timeout)
    yield from retry_problems("retry", step.retry)
    yield from retry_problems("compensate_retry", step.compensate_retry)
    not_done_on = step.not_done_on
    if not isinstance(not_done_on, tuple) or not all(_is_exception(one) for one in not_done_on):
        yield "`not_done_on` must be a tuple of exception types, such as `(CardDeclined,)`"


def order_problems(steps: Sequence[object]) -> Iterator[str]:
    pivot: str | None = None
    for node in steps:
        for step in _uncaught(node):
            if pivot is not None and step.retry is None:
                yield (
                    f"step {step_name(step)!r} stands after the pivot {pivot!r} and cannot be retried: after a point "
                    "of no return a saga only goes forward, so give it `retry = Retry(...)`, or move it before the "
                    "pivot"
                )
        if pivot is None and is_step(node) and getattr(node, "pivot", False):
            pivot = step_name(node)


def _uncaught(part: object) -> Iterator[Any]:
    """The steps whose failure no Fallback is sure to catch."""
    match part:
        case Fallback():
            if part.failure_exceptions:
                yield from _uncaught(part.step)
            yield from _uncaught(part.fallback)
        case Parallel():
            for each in part.steps:
                yield from _uncaught(each)
        case _ if is_step(part):
            yield part


def span_problems(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    if not is_number(value) or not 0 < value <= MAX_SECONDS:
        yield f"{name}={value!r} must be a number of seconds greater than 0, up to {MAX_SECONDS:g}"


def retry_problems(name: str, value: object) -> Iterator[str]:
    if value is not None and not isinstance(value, Retry):
        yield f"{name}={value!r} must be a Retry, such as `Retry(attempts=3)`"


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def picture(steps: Sequence[object]) -> str:
    rows = [f"  {number}. {_describe(step)}" for number, step in enumerate(steps, start=1)]
    return "\n".join(["steps:", *rows]) if rows else "steps: none"


def _describe(part: object, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(part, Fallback | Parallel):
        inside = ", ".join(_describe(each, depth + 1) for each in parts_of(part))
        return f"{type(part).__name__}({inside})"
    if not is_step(part):
        return repr(part)
    marks = [mark for mark in ("pivot", "read_only", "atomic") if getattr(part, mark)]
    return step_name(part) + (f" ({', '.join(marks)})" if marks else "")
