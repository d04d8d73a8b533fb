"""A saga's steps as the engine sees them: leaves that are called, and nodes that say how leaves belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from anysaga._errors import NotDone, NotStorable
from anysaga._generics import arguments_of
from anysaga._guard import Breaker
from anysaga._retry import Retry
from anysaga._snapshot import Codec, type_name
from anysaga._step import Step, defines, step_type

ROOT = ""
"""The path of the whole saga, where BACK stands when everything is undone."""

PRIMARY = "primary"
FALLBACK = "fallback"


@frozen(eq=False)
class Above:
    """A Fallback or a Parallel, seen from a step inside it.

    `branch` is the path of the part that the step is in. `scope` is where the context is kept that the whole works
    on. `size` is how many parts must be done for the whole to be done. `catches` are the exceptions that make the
    Fallback take over from this branch; None if none do.
    """

    path: str
    branch: str
    scope: str
    size: int
    parallel: bool
    catches: tuple[type[BaseException], ...] | None = None

    @property
    def falls_back(self) -> bool:
        """Whether the step is in a branch that a Fallback can take over from."""
        return self.catches is not None

    def catches_error(self, error: BaseException) -> bool:
        """Whether this error of a step makes the Fallback take over."""
        return self.catches is not None and isinstance(error, Exception) and _matches(error, self.catches)


def scope_of(above: tuple[Above, ...]) -> str:
    """The path of the branch whose context a part works on; that of the saga outside of every Parallel."""
    branches = [each.branch for each in above if each.parallel]
    return branches[-1] if branches else ROOT


def source_of(path: str) -> str:
    """Which branch of the innermost Fallback the step at a path is, as results name it; a step outside is its own."""
    branches = [part for part in path.split("/") if part in (PRIMARY, FALLBACK)]
    return branches[-1] if branches else "step"


@frozen(eq=False)
class Leaf:
    """One step at its place in a saga.

    `path` counts from 1 and is the key of the log: ``2``, ``2/primary``, ``2/fallback``, ``3/1``. `above` are the
    nodes that it is part of, the outermost first. `breaker` is asked and told by each attempt. `source` is
    what results tell of the branch.
    """

    path: str
    name: str
    step: type[Step[Any, Any]] | Step[Any, Any]
    response: Codec[Any]
    compensate_retry: Retry
    above: tuple[Above, ...] = ()
    breaker: Breaker | None = None
    scope: str = field(init=False)
    source: str = field(init=False)
    backs: tuple[str, ...] = field(init=False)
    retry: Retry | None = field(init=False)
    timeout: float | None = field(init=False)
    pivot: bool = field(init=False)
    read_only: bool = field(init=False)
    atomic: bool = field(init=False)
    not_done_on: tuple[type[BaseException], ...] = field(init=False)
    probes: bool = field(init=False)
    answers_none: bool = field(init=False)
    type: type[Step[Any, Any]] = field(init=False)  # last, since it hides the builtin from what follows

    def __attrs_post_init__(self) -> None:
        for name in ("retry", "timeout", "pivot", "read_only", "atomic", "not_done_on"):
            object.__setattr__(self, name, getattr(self.step, name))
        object.__setattr__(self, "type", step_type(self.step))
        object.__setattr__(self, "scope", scope_of(self.above))
        object.__setattr__(self, "source", source_of(self.path))
        backs = [above.branch for above in self.above if above.falls_back]
        object.__setattr__(self, "backs", (ROOT, *backs))
        object.__setattr__(self, "probes", defines(self.type, "probe"))
        object.__setattr__(self, "answers_none", arguments_of(self.type, Step)[1] in (None, type(None)))

    @property
    def place(self) -> int:
        """The index of the top-level node that this step is, or is part of."""
        return int(self.path.split("/", 1)[0]) - 1

    def catcher(self, error: BaseException) -> str | None:
        """The path of the primary that goes back because of this error, or None if no Fallback catches it."""
        for above in reversed(self.above):
            if above.catches_error(error):
                return above.branch
        return None

    @property
    def innermost_primary(self) -> str | None:
        """The path of the innermost primary that the step is part of: where an open circuit goes back."""
        return self.backs[-1] or None

    @property
    def kind(self) -> str:
        """How the step can be undone, in a word; part of the stored outline."""
        if self.pivot:
            return "pivot"
        return "read_only" if self.read_only else "step"

    def encode_response(self, response: Any) -> str | None:
        """A response as it is stored: JSON text, or None where the step answers nothing. Raises `NotStorable`."""
        if self.answers_none:
            if response is None:
                return None
            found = type_name(type(response))
            raised = isinstance(response, BaseException)
            way_out = f"raise {found}" if raised else f"say what it answers, as in `Step[Order, {found}]`"
            raise NotStorable(f"the response of step {self.name!r}", f"expected None, found {found}: {way_out}")
        try:
            return self.response.encode(response, where=f"the response of step {self.name!r}")
        except NotStorable as error:
            if response is None:
                error.reason += ": have `act`, and each middleware around it, return the answer"
            raise

    def decode_response(self, text: str | None) -> Any:
        """A stored response. Raises `NotReadable`."""
        return None if text is None else self.response.decode(text, where=f"the response of step {self.name!r}")

    def is_clean(self, error: BaseException) -> bool:
        """Whether `error`, raised by act itself, says that the act had no effect.

        A group is clean only if every error in it is.
        """
        if isinstance(error, BaseExceptionGroup):
            return all(self.is_clean(part) for part in error.exceptions)
        return self.atomic or isinstance(error, (NotDone, *self.not_done_on))


@frozen(eq=False)
class FallbackNode:
    """A primary, and the fallback that takes over from it."""

    path: str
    primary: Node
    fallback: Node
    size: ClassVar[int] = 1


@frozen(eq=False)
class ParallelNode:
    """Nodes that act at the same time, at most `limit` at once."""

    path: str
    children: tuple[Node, ...]
    limit: int

    @property
    def size(self) -> int:
        """How many parts must be done for the node to be done."""
        return len(self.children)


Node: TypeAlias = Leaf | FallbackNode | ParallelNode


def leaves_of(node: Node) -> Iterator[Leaf]:
    """All steps of a node, in the order in which they are declared."""
    match node:
        case Leaf():
            yield node
        case FallbackNode(_, primary, fallback):
            yield from leaves_of(primary)
            yield from leaves_of(fallback)
        case ParallelNode(_, children):
            for child in children:
                yield from leaves_of(child)


def is_below(path: str, top: str) -> bool:
    """Whether a path is `top` or inside it. Everything is inside the root."""
    return not top or path == top or path.startswith(top + "/")


def _matches(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    if not kinds or isinstance(error, kinds):
        return True
    return isinstance(error, BaseExceptionGroup) and all(_matches(part, kinds) for part in error.exceptions)
