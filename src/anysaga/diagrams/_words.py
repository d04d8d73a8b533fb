"""What a reader of a diagram wants to know of a node, in a few words. Not escaped yet."""

from __future__ import annotations

from typing import Any

from anysaga._generics import arguments_of
from anysaga._nodes import PRIMARY, FallbackNode, Leaf, Node, ParallelNode, leaves_of
from anysaga._retry import Retry
from anysaga._step import Step


def seconds(span: float) -> str:
    """A span of time."""
    return f"{span:g} s"


def tries(retry: Retry | None) -> list[str]:
    """How often something is tried, if more than once."""
    return [f"up to {retry.attempts} attempts"] if retry is not None and retry.attempts > 1 else []


def traits(leaf: Leaf) -> list[str]:
    """What is special about a step's act."""
    kinds = {"pivot": ["point of no return"], "read_only": ["read-only"], "step": []}[leaf.kind]
    limit = [] if leaf.timeout is None else [f"at most {seconds(leaf.timeout)}"]
    return [*kinds, *limit, *tries(leaf.retry)]


def answer_of(leaf: Leaf) -> Any:
    """The type of what a step's act answers."""
    return arguments_of(leaf.type, Step)[1]


def is_undone(leaf: Leaf) -> bool:
    """Whether a step has something to compensate."""
    return leaf.kind == "step"


def undone_nodes(steps: tuple[Node, ...]) -> list[Node]:
    """What the saga as a whole goes back through, in that order: nothing from its first pivot on."""
    pivots = [place for place, node in enumerate(steps) if isinstance(node, Leaf) and node.pivot]
    before = steps[: pivots[0]] if pivots else steps
    return [node for node in reversed(before) if any(map(is_undone, leaves_of(node)))]


def falls_back_on(node: FallbackNode) -> str:
    """When the fallback takes over."""
    inside = next(leaves_of(node.primary))
    kinds = next(above.catches or () for above in inside.above if above.path == node.path)
    errors = " or ".join(kind.__name__ for kind in kinds) or "any error"
    return f"{errors}, or an open circuit" if breaker_of(node) is not None else errors


def breaker_of(node: FallbackNode) -> Any:
    """The breaker whose open circuit makes this very Fallback take over, or None."""
    primary = f"{node.path}/{PRIMARY}"
    guarded = [leaf for leaf in leaves_of(node.primary) if leaf.innermost_primary == primary]
    return next((leaf.breaker for leaf in guarded if leaf.breaker is not None), None)


def breaker_words(node: FallbackNode) -> list[str]:
    """How its circuit breaker is set; only that there is one, if it is none of ours."""
    breaker = breaker_of(node)
    limits = getattr(breaker, "limits", None)
    if breaker is None or limits is None:
        return [] if breaker is None else ["circuit breaker"]
    return [f"circuit breaker, opens after {limits.fail_max} failures for {seconds(limits.reset_timeout / 1_000_000)}"]


def at_once(node: ParallelNode) -> str:
    """How many branches act at the same time."""
    return "all at once" if node.limit >= node.size else f"at most {node.limit} at once"
