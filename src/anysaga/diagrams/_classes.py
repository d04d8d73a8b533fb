"""A saga as classes: its parts, and the types that they work on and answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from anysaga._definition import Definition
from anysaga._nodes import FallbackNode, Leaf, Node, ParallelNode
from anysaga._snapshot import fields_of, has_fields, type_name
from anysaga.diagrams._text import diagram, indented, key, label
from anysaga.diagrams._words import (
    answer_of,
    at_once,
    breaker_words,
    falls_back_on,
    is_undone,
    seconds,
    traits,
    tries,
)

_SAGA = "saga"
_CONTEXT = "context"


def class_diagram(definition: Definition) -> str:
    """The Mermaid text. Arrows lead from a part to those it consists of, dashed ones to types."""
    return diagram("classDiagram", _lines(definition))


def _lines(definition: Definition) -> Iterator[str]:
    limit = [] if definition.timeout is None else [label(f"forwards at most {seconds(definition.timeout)}")]
    yield from _class(_SAGA, definition.name, _SAGA, [f"version {definition.version}", *limit])
    yield from _record(_CONTEXT, definition.context_type, _CONTEXT)
    yield _arrow(_SAGA, "..>", _CONTEXT)
    answers = _answers(definition)
    for name, kind in answers.items():
        yield from _record(name, kind, "response")
    for number, node in enumerate(definition.steps, start=1):
        yield from _part(node, _SAGA, str(number), definition)
    for leaf in definition.leaves:
        yield from (_arrow(key(leaf, "n"), "..>", name) for name, kind in answers.items() if kind == answer_of(leaf))


def _answers(definition: Definition) -> dict[str, Any]:
    """The types with fields that steps answer, each once, by their ids."""
    kinds: list[Any] = []
    for kind in map(answer_of, definition.leaves):
        if has_fields(kind) and kind not in kinds:
            kinds.append(kind)
    return {f"r{number}": kind for number, kind in enumerate(kinds, start=1)}


def _part(node: Node, above: str, role: str, definition: Definition) -> Iterator[str]:
    """A node, those inside it, and the arrow to it."""
    name = key(node, "n")
    match node:
        case Leaf():
            yield from _class(name, node.name, "step", _members(node, type_name(definition.context_type)))
        case FallbackNode(_, primary, fallback):
            members = [label(f"on {falls_back_on(node)}"), *map(label, breaker_words(node))]
            yield from _class(name, "Fallback", "fallback", members)
            yield from _part(primary, name, "primary", definition)
            yield from _part(fallback, name, "fallback", definition)
        case ParallelNode(_, children):
            yield from _class(name, "Parallel", "parallel", [label(at_once(node))])
            for number, child in enumerate(children, start=1):
                yield from _part(child, name, str(number), definition)
    yield _arrow(above, "-->", name, role)


def _members(leaf: Leaf, context: str) -> list[str]:
    kind = [] if leaf.name == leaf.type.__name__ else [label(f"class {leaf.type.__name__}")]
    undo = [f"+compensate({label(context)}) None"] if is_undone(leaf) else []
    probe = [f"+probe({label(context)}) Outcome"] if leaf.probes else []
    notes = [label(words) for words in traits(leaf)]
    again = [label(f"compensate {words}") for words in tries(leaf.compensate_retry)] if is_undone(leaf) else []
    return [*kind, f"+act({label(context)}) {label(type_name(answer_of(leaf)))}", *undo, *probe, *notes, *again]


def _record(name: str, kind: Any, role: str) -> list[str]:
    fields = fields_of(kind) if has_fields(kind) else ()
    return _class(
        name, type_name(kind), role, [f"+{label(field.name)} {label(type_name(field.kind))}" for field in fields]
    )


def _class(name: str, title: str, role: str, members: Iterable[str]) -> list[str]:
    return [f'class {name}["{label(title)}"] {{', *indented([f"<<{role}>>", *members]), "}"]


def _arrow(start: str, line: str, end: str, role: str = "") -> str:
    return f"{start} {line} {end}" + (f" : {role}" if role else "")
