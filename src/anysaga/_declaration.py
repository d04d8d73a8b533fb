"""From what a user declares to a `Definition`: every check that can be made before a saga runs is made here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from anysaga._arguments import is_name, is_number
from anysaga._compilation import (
    Compiler,
    is_step,
    parts_of,
    single_parts,
    step_context,
    step_name,
)
from anysaga._composites import Fallback, Parallel
from anysaga._definition import DEFAULT_COMPENSATE_RETRY, DEFAULT_GRACE, Definition
from anysaga._errors import DefinitionError, NotStorable
from anysaga._event_map import EventMap
from anysaga._generics import arguments_of, is_open
from anysaga._guard import Breaker
from anysaga._limits import MAX_NAME, MAX_SECONDS, MAX_VERSION
from anysaga._methods import leftover_problems, method_problems
from anysaga._retry import Retry
from anysaga._snapshot import IN_QUOTES, Codec, codec_for, has_fields, quoted
from anysaga._step import Step, defines, step_type

MAX_DEPTH = 8
"""How deep Fallbacks and Parallels may be nested."""


@frozen
class Declaration:
    """A saga as it was declared, not yet checked.

    `context_may_follow`: ``Saga[Order](...)`` tells its context type only after it was made, so an open one is no
    problem yet. `misuses` are problems of the class itself.
    """

    name: str
    version: int
    steps: Sequence[object]
    context_type: Any
    timeout: float | None = None
    compensate_retry: Retry | None = None
    on_undo_failure: str = "park"
    grace: float = DEFAULT_GRACE
    events: object = None
    context_may_follow: bool = False
    misuses: tuple[str, ...] = ()


def compile_saga(declared: Declaration) -> Definition:
    """Check a declaration and compile it. Raises `DefinitionError` that lists all problems and shows the saga."""
    steps = declared.steps
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        problem = "steps is no list of step classes: write `steps = [...]`, even if it is only one"
        raise DefinitionError(declared.name, (problem,), f"steps: {steps!r}")
    if any(_is_too_deep(step, MAX_DEPTH) for step in steps):
        problem = f"it has Fallbacks and Parallels in more than {MAX_DEPTH} levels"
        raise DefinitionError(declared.name, (problem,), _picture(steps))
    problems = [*declared.misuses, *_saga_problems(declared), *_composite_problems(steps)]
    parts = [single for step in steps for single in single_parts(step)]
    problems += _step_problems(parts)
    known = [step for step in parts if is_step(step)]
    problems += _order_problems(steps)
    context_type, codec = _context(declared, known, problems)
    responses = {step_name(step): _response_codec(step, problems) for step in known}
    if problems:
        raise DefinitionError(declared.name, tuple(problems), _picture(steps))
    compiler = Compiler(declared.compensate_retry or DEFAULT_COMPENSATE_RETRY, responses)
    return Definition(
        name=declared.name,
        version=declared.version,
        steps=tuple(compiler.node(step, str(number)) for number, step in enumerate(steps, start=1)),
        context_type=context_type,
        codec=codec,  # type: ignore[arg-type]  # None only with a problem, raised above
        timeout=declared.timeout,
        on_undo_failure="continue" if declared.on_undo_failure == "continue" else "park",
        grace=declared.grace,
        events=declared.events if isinstance(declared.events, EventMap) else EventMap(),
    )


def _saga_problems(declared: Declaration) -> Iterator[str]:
    if not declared.steps:
        yield "it has no steps: list its step classes in `steps`"
    if not is_name(declared.name):
        yield f"its name must be a text of 1 to {MAX_NAME} printable characters"
    if type(declared.version) is not int or declared.version < 1:
        yield f"version={declared.version!r} must be a whole number, 1 or more"
    elif declared.version > MAX_VERSION:
        yield f"version={declared.version!r} is more than a store can keep: give at most {MAX_VERSION}"
    yield from _span_problems("timeout", declared.timeout)
    yield from _span_problems("grace", declared.grace)
    yield from _retry_problems("compensate_retry", declared.compensate_retry)
    if declared.events is not None and not isinstance(declared.events, EventMap):
        yield f"events={declared.events!r} must be an EventMap"
    if declared.on_undo_failure not in ("park", "continue"):
        yield f'on_undo_failure={declared.on_undo_failure!r} must be "park" or "continue"'


def _is_too_deep(part: object, levels: int) -> bool:
    if not isinstance(part, Fallback | Parallel):
        return False
    return levels == 0 or any(_is_too_deep(each, levels - 1) for each in parts_of(part))


def _composite_problems(parts: Iterable[object], depth: int = 0) -> Iterator[str]:
    for part in parts:
        if depth and is_step(part) and getattr(part, "pivot", False):
            yield (
                f"step {step_name(part)!r} is a pivot inside a Fallback or a Parallel: a point of no return "
                "is never undone, so it stands by itself in `steps`"
            )
        if isinstance(part, Fallback | Parallel):
            yield from _fallback_problems(part) if isinstance(part, Fallback) else _parallel_problems(part)
            yield from _composite_problems(parts_of(part), depth + 1)


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


def _step_problems(steps: Sequence[object]) -> Iterator[str]:
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
    yield from _span_problems("timeout", step.timeout)
    yield from _retry_problems("retry", step.retry)
    yield from _retry_problems("compensate_retry", step.compensate_retry)
    not_done_on = step.not_done_on
    if not isinstance(not_done_on, tuple) or not all(_is_exception(one) for one in not_done_on):
        yield "`not_done_on` must be a tuple of exception types, such as `(CardDeclined,)`"


def _order_problems(steps: Sequence[object]) -> Iterator[str]:
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


def _context(declared: Declaration, steps: Sequence[Any], problems: list[str]) -> tuple[Any, Codec[Any] | None]:
    """The context type and its codec. Adds what is wrong with them to `problems`; then there may be no codec."""
    told = _context_type(declared, steps)
    if told is None and (declared.context_may_follow or not steps):
        return Any, codec_for(Any, where="a context that is not known yet")
    if told is None:
        problems.append(
            "its context type is open: write `class OrderSaga(Saga[Order])`, or `Step[Order, ...]` for its steps"
        )
        return None, None
    if quoted(told) is not None:
        problems.append(f"its context type {quoted(told)!r} is {IN_QUOTES}")
        return told, None
    problems += _misfits(steps, told)
    if not has_fields(told):
        problems.append(
            f"its context type {_name(told)} is neither an attrs class nor a dataclass: make it one of them, since "
            "only those can be put back in place, for another attempt"
        )
        return told, None
    return told, _codec(told, _name(told), problems)


def _misfits(steps: Iterable[Any], context_type: Any) -> Iterator[str]:
    for step in steps:
        wanted = step_context(step)
        if context_type is Any or is_open(wanted) or _accepts(wanted, context_type):
            continue
        if quoted(wanted) is not None:
            yield f"step {step_name(step)!r} works on {quoted(wanted)!r}, which is {IN_QUOTES}"
            continue
        yield (
            f"step {step_name(step)!r} works on {_name(wanted)}, and the saga on {_name(context_type)}: "
            "one saga has one context type"
        )


def _response_codec(step: object, problems: list[str]) -> Any:
    response = arguments_of(step_type(step), Step)[1]
    return _codec(Any if is_open(response) else response, f"the response of step {step_name(step)!r}", problems)


def _codec(kind: Any, where: str, problems: list[str]) -> Any:
    try:
        return codec_for(kind, where=where)
    except NotStorable as error:
        problems.append(str(error))
        return None


def _context_type(declared: Declaration, steps: Iterable[object]) -> Any:
    """What the saga says, or else the first step that says something; None if nobody does yet."""
    if declared.context_type is not None and not is_open(declared.context_type):
        return declared.context_type
    wanted = () if declared.context_may_follow else map(step_context, steps)
    return next((kind for kind in wanted if not is_open(kind) and kind not in (Any, object)), None)


def _accepts(wanted: Any, context_type: Any) -> bool:
    if wanted is Any or wanted is object or wanted == context_type:
        return True
    if isinstance(wanted, type) and getattr(wanted, "_is_protocol", False):
        return True
    return isinstance(wanted, type) and isinstance(context_type, type) and issubclass(context_type, wanted)


def _span_problems(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    if not is_number(value) or not 0 < value <= MAX_SECONDS:
        yield f"{name}={value!r} must be a number of seconds greater than 0, up to {MAX_SECONDS:g}"


def _retry_problems(name: str, value: object) -> Iterator[str]:
    if value is not None and not isinstance(value, Retry):
        yield f"{name}={value!r} must be a Retry, such as `Retry(attempts=3)`"


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _picture(steps: Sequence[object]) -> str:
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
