"""From declared steps that have passed every check to the nodes of a `Definition`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from anysaga._composites import Fallback, Parallel
from anysaga._generics import arguments_of
from anysaga._guard import Breaker
from anysaga._nodes import FALLBACK, PRIMARY, Above, FallbackNode, Leaf, Node, ParallelNode, scope_of
from anysaga._retry import Retry
from anysaga._snapshot import Codec
from anysaga._step import Step, step_type


def is_step(part: object) -> bool:
    """Whether this is a single step: a class or an instance."""
    return isinstance(part, Step) or (isinstance(part, type) and issubclass(part, Step))


def step_name(step: object) -> str:
    """What a step is called: its `name`, or its class's."""
    return str(getattr(step, "name", "") or step_type(step).__name__)


def step_context(step: object) -> Any:
    """The type of the context that a step works on."""
    return arguments_of(step_type(step), Step)[0]


def parts_of(part: object) -> tuple[object, ...]:
    """What a declared part consists of; a step consists of nothing else."""
    match part:
        case Fallback():
            return (part.step, part.fallback)
        case Parallel():
            return part.steps
        case _:
            return ()


def single_parts(part: object) -> Iterator[object]:
    """All that is no Fallback and no Parallel, in the order in which it was declared."""
    if not isinstance(part, Fallback | Parallel):
        yield part
    for each in parts_of(part):
        yield from single_parts(each)


@frozen
class Compiler:
    """Makes nodes. `responses` are the codecs of the steps' responses, by their names."""

    compensate_retry: Retry
    responses: Mapping[str, Codec[Any]]

    def node(self, part: Any, path: str, above: tuple[Above, ...] = (), breaker: Breaker | None = None) -> Node:
        """The node for a declared part at `path`."""
        match part:
            case Fallback():
                return self._fallback(part, path, above, breaker)
            case Parallel():
                return self._parallel(part, path, above, breaker)
            case _:
                name = step_name(part)
                retry = part.compensate_retry or self.compensate_retry
                return Leaf(path, name, part, self.responses[name], retry, above, breaker)

    def _fallback(self, part: Fallback, path: str, above: tuple[Above, ...], breaker: Breaker | None) -> FallbackNode:
        scope, primary, fallback = scope_of(above), f"{path}/{PRIMARY}", f"{path}/{FALLBACK}"
        caught = Above(path, primary, scope, 1, parallel=False, catches=tuple(part.failure_exceptions))
        last = Above(path, fallback, scope, 1, parallel=False)
        guard = breaker if part.circuit_breaker is None else part.circuit_breaker
        return FallbackNode(
            path,
            self.node(part.step, primary, (*above, caught), guard),
            self.node(part.fallback, fallback, (*above, last), breaker),
        )

    def _parallel(self, part: Parallel, path: str, above: tuple[Above, ...], breaker: Breaker | None) -> ParallelNode:
        scope, size = scope_of(above), len(part.steps)
        children: list[Node] = []
        for number, child in enumerate(part.steps, start=1):
            branch = f"{path}/{number}"
            place = Above(path, branch, scope, size, parallel=True)
            children.append(self.node(child, branch, (*above, place), breaker))
        return ParallelNode(path, tuple(children), part.limit or size)
