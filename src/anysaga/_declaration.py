"""From what a user declares to a `Definition`: every check that can be made before a saga runs is made here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from anysaga._definition import DEFAULT_COMPENSATE_RETRY, DEFAULT_GRACE, Definition, Leaf
from anysaga._errors import DefinitionError, NotStorable
from anysaga._generics import arguments_of, is_open
from anysaga._retry import Retry
from anysaga._snapshot import codec_for
from anysaga._step import Step, defines

MAX_NAME = 200
"""Characters that the name of a saga or a step may have."""


@frozen
class Declaration:
    """A saga as it was declared, not yet checked.

    `context_may_follow`: ``Saga[Order](...)`` tells its context type only after it was made, so an open one is no
    problem yet.
    """

    name: str
    version: int
    steps: Sequence[object]
    context_type: Any
    timeout: float | None = None
    compensate_retry: Retry | None = None
    on_undo_failure: str = "park"
    grace: float = DEFAULT_GRACE
    context_may_follow: bool = False


def compile_saga(declared: Declaration) -> Definition:
    """Check a declaration and compile it. Raises `DefinitionError` that lists all problems and shows the saga."""
    steps = declared.steps
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise DefinitionError(declared.name, ("steps is no list of step classes",), "")
    problems = [*_saga_problems(declared), *_step_problems(steps)]
    known = [step for step in steps if _is_step(step)]
    context_type = _context_type(declared, known)
    if context_type is None and (declared.context_may_follow or not known):
        context_type = Any
    problems += [*_order_problems(known), *_context_problems(known, context_type)]
    leaves = tuple(_leaves(declared, known, problems))
    codec = None if context_type is None else _codec(context_type, _name(context_type), problems)
    if problems:
        raise DefinitionError(declared.name, tuple(problems), _picture(steps))
    return Definition(
        name=declared.name,
        version=declared.version,
        steps=leaves,
        context_type=context_type,
        codec=codec,  # type: ignore[arg-type]  # None only with a problem, raised above
        timeout=declared.timeout,
        on_undo_failure="continue" if declared.on_undo_failure == "continue" else "park",
        grace=declared.grace,
    )


def _saga_problems(declared: Declaration) -> Iterator[str]:
    if not declared.steps:
        yield "it has no steps: list its step classes in `steps`"
    if not isinstance(declared.name, str) or not 0 < len(declared.name) <= MAX_NAME:
        yield f"its name must be a text of 1 to {MAX_NAME} characters"
    if type(declared.version) is not int or declared.version < 1:
        yield f"version={declared.version!r} must be a whole number, 1 or more"
    yield from _span_problems("timeout", declared.timeout)
    yield from _span_problems("grace", declared.grace)
    yield from _retry_problems("compensate_retry", declared.compensate_retry)
    if declared.on_undo_failure not in ("park", "continue"):
        yield f'on_undo_failure={declared.on_undo_failure!r} must be "park" or "continue"'


def _step_problems(steps: Sequence[object]) -> Iterator[str]:
    names: set[str] = set()
    for step in steps:
        if not _is_step(step):
            yield f"{step!r} is no step: list subclasses of Step, or instances of them"
            continue
        name = _step_name(step)
        if name in names:
            yield f"two steps are named {name!r}: give one of them another `name`"
        names.add(name)
        yield from (f"step {name!r}: {problem}" for problem in _single_step_problems(step))


def _single_step_problems(step: Any) -> Iterator[str]:
    kind = _step_type(step)
    if not isinstance(step.name, str) or len(_step_name(step)) > MAX_NAME:
        yield f"its name must be a text of at most {MAX_NAME} characters"
    if not defines(kind, "act"):
        yield "it does not define `act`"
    if not (defines(kind, "compensate") or step.pivot or step.read_only):
        yield (
            "it says nothing about undoing: define `compensate`, or say `pivot = True` (a point of no return) "
            "or `read_only = True` (nothing to undo)"
        )
    if step.pivot and step.read_only:
        yield "it cannot be both `pivot` and `read_only`: a step without effect is no point of no return"
    yield from _span_problems("timeout", step.timeout)
    yield from _retry_problems("retry", step.retry)
    yield from _retry_problems("compensate_retry", step.compensate_retry)
    not_done_on = step.not_done_on
    if not isinstance(not_done_on, tuple) or not all(_is_exception(one) for one in not_done_on):
        yield "`not_done_on` must be a tuple of exception types, such as `(CardDeclined,)`"


def _order_problems(steps: Iterable[Any]) -> Iterator[str]:
    pivot: str | None = None
    for step in steps:
        if pivot is not None and step.retry is None:
            yield (
                f"step {_step_name(step)!r} stands after the pivot {pivot!r} and cannot be retried: after a point of "
                "no return a saga only goes forward, so give it `retry = Retry(...)`, or move it before the pivot"
            )
        if step.pivot and pivot is None:
            pivot = _step_name(step)


def _context_problems(steps: Iterable[Any], context_type: Any) -> Iterator[str]:
    if context_type is None:
        yield "its context type is open: write `class OrderSaga(Saga[Order])`, or `Step[Order, ...]` for its steps"
        return
    for step in steps:
        wanted = _step_context(step)
        if context_type is Any or is_open(wanted) or _accepts(wanted, context_type):
            continue
        yield (
            f"step {_step_name(step)!r} works on {_name(wanted)}, and the saga on {_name(context_type)}: "
            "one saga has one context type"
        )


def _leaves(declared: Declaration, steps: Iterable[Any], problems: list[str]) -> Iterator[Leaf]:
    default = declared.compensate_retry or DEFAULT_COMPENSATE_RETRY
    for number, step in enumerate(steps, start=1):
        name = _step_name(step)
        response = arguments_of(_step_type(step), Step)[1]
        codec = _codec(Any if is_open(response) else response, f"the response of step {name!r}", problems)
        yield Leaf(str(number), name, step, codec, step.compensate_retry or default)


def _codec(kind: Any, where: str, problems: list[str]) -> Any:
    try:
        return codec_for(kind, where=where)
    except NotStorable as error:
        problems.append(str(error))
        return None


def _context_type(declared: Declaration, steps: Iterable[object]) -> Any:
    if declared.context_type is not None and not is_open(declared.context_type):
        return declared.context_type
    for step in steps:
        wanted = _step_context(step)
        if not is_open(wanted):
            return wanted
    return None


def _accepts(wanted: Any, context_type: Any) -> bool:
    if wanted is Any or wanted is object or wanted == context_type:
        return True
    if isinstance(wanted, type) and getattr(wanted, "_is_protocol", False):
        return True
    return isinstance(wanted, type) and isinstance(context_type, type) and issubclass(context_type, wanted)


def _span_problems(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        yield f"{name}={value!r} must be a number of seconds greater than 0"


def _retry_problems(name: str, value: object) -> Iterator[str]:
    if value is not None and not isinstance(value, Retry):
        yield f"{name}={value!r} must be a Retry, such as `Retry(attempts=3)`"


def _is_step(step: object) -> bool:
    return isinstance(step, Step) or (isinstance(step, type) and issubclass(step, Step))


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _step_type(step: object) -> type[Step[Any, Any]]:
    return step if isinstance(step, type) else type(step)  # pyright: ignore[reportReturnType]  # checked before


def _step_name(step: object) -> str:
    return str(getattr(step, "name", "") or _step_type(step).__name__)


def _step_context(step: object) -> Any:
    return arguments_of(_step_type(step), Step)[0]


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _picture(steps: Sequence[object]) -> str:
    rows = [f"  {number}. {_describe(step)}" for number, step in enumerate(steps, start=1)]
    return "\n".join(["steps:", *rows]) if rows else "steps: none"


def _describe(step: object) -> str:
    if not _is_step(step):
        return repr(step)
    marks = [mark for mark in ("pivot", "read_only", "atomic") if getattr(step, mark)]
    return _step_name(step) + (f" ({', '.join(marks)})" if marks else "")
