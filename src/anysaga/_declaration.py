"""From what a user declares to a `Definition`: every check that can be made before a saga runs is made here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen

from anysaga._arguments import is_name
from anysaga._compilation import (
    Compiler,
    is_step,
    single_parts,
    step_context,
    step_name,
)
from anysaga._definition import DEFAULT_COMPENSATE_RETRY, DEFAULT_GRACE, Definition
from anysaga._errors import DefinitionError, NotStorable
from anysaga._event_map import EventMap
from anysaga._generics import arguments_of, is_open
from anysaga._limits import MAX_NAME, MAX_VERSION
from anysaga._retry import Retry
from anysaga._snapshot import IN_QUOTES, Codec, codec_for, has_fields, quoted
from anysaga._step import Step, step_type
from anysaga._step_problems import (
    MAX_DEPTH,
    composite_problems,
    is_too_deep,
    order_problems,
    picture,
    retry_problems,
    span_problems,
    step_problems,
)


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
    if any(is_too_deep(step, MAX_DEPTH) for step in steps):
        problem = f"it has Fallbacks and Parallels in more than {MAX_DEPTH} levels"
        raise DefinitionError(declared.name, (problem,), picture(steps))
    problems = [*declared.misuses, *_saga_problems(declared), *composite_problems(steps)]
    parts = [single for step in steps for single in single_parts(step)]
    problems += step_problems(parts)
    known = [step for step in parts if is_step(step)]
    problems += order_problems(steps)
    context_type, codec = _context(declared, known, problems)
    responses = {step_name(step): _response_codec(step, problems) for step in known}
    if problems:
        raise DefinitionError(declared.name, tuple(problems), picture(steps))
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
    yield from span_problems("timeout", declared.timeout)
    yield from span_problems("grace", declared.grace)
    yield from retry_problems("compensate_retry", declared.compensate_retry)
    if declared.events is not None and not isinstance(declared.events, EventMap):
        yield f"events={declared.events!r} must be an EventMap"
    if declared.on_undo_failure not in ("park", "continue"):
        yield f'on_undo_failure={declared.on_undo_failure!r} must be "park" or "continue"'


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


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)
