"""A saga as a flow chart: the ways through it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from anysaga._definition import Definition
from anysaga._nodes import FallbackNode, Leaf, Node, ParallelNode
from anysaga.diagrams._text import diagram, indented, key, label
from anysaga.diagrams._words import (
    at_once,
    breaker_words,
    falls_back_on,
    is_undone,
    seconds,
    traits,
    tries,
    undone_nodes,
)

_START, _COMPLETED, _COMPENSATED, _PARKED = "start", "completed", "compensated", "parked"
_SHAPES = {"step": ('["', '"]'), "read_only": ('[/"', '"/]'), "pivot": ('{{"', '"}}')}


def flow(definition: Definition) -> str:
    """The Mermaid text. Solid arrows go forwards, dashed ones follow a failure; a pivot is a hexagon."""
    return diagram("flowchart TD", _lines(definition))


def _lines(definition: Definition) -> Iterator[str]:
    steps, undone = definition.steps, undone_nodes(definition.steps)
    limit = [] if definition.timeout is None else [f"forwards at most {seconds(definition.timeout)}"]
    yield f'{_START}(["{_rows(definition.name, *limit)}"])'
    for node in steps:
        yield from _act(node)
    for node in undone:
        yield from _undo(node)
    yield f'{_COMPLETED}(["COMPLETED"])'
    failures = list(_failures(steps, undone))
    for end in (_COMPENSATED, _PARKED):
        if any(line.endswith(f" {end}") for line in failures):
            yield f'{end}(["{end.upper()}"])'
    yield from _chain([_START, *(key(node, "n") for node in steps), _COMPLETED])
    yield from failures


def _failures(steps: tuple[Node, ...], undone: list[Node]) -> Iterator[str]:
    """The dashed arrows: from each node to where its failure leads, and from there through the undos."""
    pivot_done = False
    for place, node in enumerate(steps):
        name = key(node, "n")
        if pivot_done:
            yield _dashed(name, "fails", _PARKED)
            continue
        back = next((key(one, "u") for one in undone if one in steps[: place + 1]), _COMPENSATED)
        if isinstance(node, Leaf) and node.pivot:
            pivot_done = True
            yield _dashed(name, "not done", back)
            yield _dashed(name, "unknown", _PARKED)
        else:
            yield _dashed(name, "fails", back)
    ways = [*(key(node, "u") for node in undone), _COMPENSATED]
    if undone:
        yield from (f"{start} -.-> {end}" for start, end in pairwise(ways))
        yield from (_dashed(key(node, "u"), "cannot be undone", _PARKED) for node in undone)


def _act(node: Node) -> list[str]:
    name = key(node, "n")
    match node:
        case Leaf():
            opening, closing = _SHAPES[node.kind]
            return [f"{name}{opening}{_rows(node.name, *traits(node))}{closing}"]
        case FallbackNode(_, primary, fallback):
            over = _dashed(key(primary, "n"), f"{falls_back_on(node)}: undone, then", key(fallback, "n"))
            title = ", ".join(["Fallback", *breaker_words(node)])
            return _subgraph(name, title, [*_act(primary), *_act(fallback), over])
        case ParallelNode(_, children):
            return _subgraph(name, f"Parallel, {at_once(node)}", [line for child in children for line in _act(child)])


def _undo(node: Node) -> list[str]:
    name = key(node, "u")
    match node:
        case Leaf():
            return [f'{name}["{_rows(f"undo {node.name}", *tries(node.compensate_retry))}"]'] if is_undone(node) else []
        case FallbackNode(_, primary, fallback):
            title, inside = "undo whichever acted", [*_undo(fallback), *_undo(primary)]
        case ParallelNode(_, children):
            title, inside = "undo side by side", [line for child in children for line in _undo(child)]
    return _subgraph(name, title, inside) if inside else []


def _subgraph(name: str, title: str, lines: list[str]) -> list[str]:
    return [f'subgraph {name}["{label(title)}"]', *indented(lines), "end"]


def _rows(*texts: str) -> str:
    return "<br/>".join(map(label, texts))


def _chain(names: list[str]) -> Iterator[str]:
    yield from (f"{start} --> {end}" for start, end in pairwise(names))


def _dashed(start: str, why: str, end: str) -> str:
    return f'{start} -. "{label(why)}" .-> {end}'
