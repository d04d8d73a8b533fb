"""A saga as a sequence of calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anysaga._definition import Definition
from anysaga._nodes import FallbackNode, Leaf, Node, ParallelNode
from anysaga._snapshot import type_name
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
    undone_nodes,
)


def sequence(definition: Definition) -> str:
    """The Mermaid text. Each step is a participant; the saga calls them."""
    return diagram("sequenceDiagram", _lines(definition))


def _lines(definition: Definition) -> Iterator[str]:
    yield f"participant saga as {label(definition.name)}"
    for leaf in definition.leaves:
        yield f"participant {key(leaf, 's')} as {label(leaf.name)}"
    if definition.timeout is not None:
        yield f"Note over saga: {label(f'forwards at most {seconds(definition.timeout)}')}"
    forwards = [line for node in definition.steps for line in _forwards(node)]
    undone = undone_nodes(definition.steps)
    if not undone:
        yield from forwards
        return
    backwards = [line for node in undone for line in _backwards(node)]
    yield from _choice("alt", [("every step is done", forwards), (_when(definition), backwards)])


def _when(definition: Definition) -> str:
    pivot = next((leaf.name for leaf in definition.leaves if leaf.pivot), None)
    return "a step fails" if pivot is None else f"a step fails before {pivot} is done"


def _forwards(node: Node) -> list[str]:
    match node:
        case Leaf():
            return _act(node)
        case FallbackNode(_, primary, fallback):
            head = ", ".join(["Fallback", *breaker_words(node)])
            caught = f"on {falls_back_on(node)}"
            undone = _undo_of_primary(primary)
            return _choice("alt", [(head, _forwards(primary)), (caught, [*undone, *_forwards(fallback)])])
        case ParallelNode(_, children):
            return _side_by_side(f"Parallel, {at_once(node)}", [_forwards(child) for child in children])


def _undo_of_primary(primary: Node) -> list[str]:
    lines = _backwards(primary)
    return _choice("opt", [("the primary may have had an effect", lines)]) if lines else []


def _backwards(node: Node) -> list[str]:
    match node:
        case Leaf():
            return _undo(node)
        case FallbackNode(_, primary, fallback):
            parts = [("the fallback acted", _backwards(fallback)), ("the primary acted", _backwards(primary))]
            return _choice("alt", [(when, lines) for when, lines in parts if lines])
        case ParallelNode(_, children):
            return _side_by_side("undone side by side", [lines for child in children if (lines := _backwards(child))])


def _act(leaf: Leaf) -> list[str]:
    return [
        f"saga->>{key(leaf, 's')}: {label(', '.join(['act', *traits(leaf)]))}",
        f"{key(leaf, 's')}-->>saga: {label(type_name(answer_of(leaf)))}",
    ]


def _undo(leaf: Leaf) -> list[str]:
    if not is_undone(leaf):
        return []
    return [
        f"saga->>{key(leaf, 's')}: {label(', '.join(['compensate', *tries(leaf.compensate_retry)]))}",
        f"{key(leaf, 's')}-->>saga: undone",
    ]


def _side_by_side(head: str, branches: Sequence[list[str]]) -> list[str]:
    return _block(
        "par", "and", [(head, branch) if not place else ("", branch) for place, branch in enumerate(branches)]
    )


def _choice(word: str, parts: Sequence[tuple[str, list[str]]]) -> list[str]:
    return _block(word, "else", parts)


def _block(word: str, again: str, parts: Sequence[tuple[str, list[str]]]) -> list[str]:
    if not parts:
        return []
    lines: list[str] = []
    for place, (head, inside) in enumerate(parts):
        opening = again if place else word
        lines += [f"{opening} {label(head)}" if head else opening, *indented(inside)]
    return [*lines, "end"]
