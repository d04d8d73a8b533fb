"""A saga as the engine sees it: compiled once from what the user declared, and immutable."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from attrs import field, frozen

from anysaga._errors import NotDone
from anysaga._generics import arguments_of
from anysaga._records import Outcome
from anysaga._retry import Retry
from anysaga._snapshot import Codec
from anysaga._step import Step, defines

DEFAULT_COMPENSATE_RETRY = Retry(attempts=3, delay=1.0, backoff=2.0)
DEFAULT_GRACE = 10.0

UndoFailurePolicy = Literal["park", "continue"]


@frozen(eq=False)
class Leaf:
    """One step at its place in a saga. `path` counts from 1 and is the key of the log: ``2``, ``3/1``."""

    path: str
    name: str
    step: type[Step[Any, Any]] | Step[Any, Any]
    response: Codec[Any]
    compensate_retry: Retry
    retry: Retry | None = field(init=False)
    timeout: float | None = field(init=False)
    pivot: bool = field(init=False)
    read_only: bool = field(init=False)
    atomic: bool = field(init=False)
    not_done_on: tuple[type[BaseException], ...] = field(init=False)
    probes: bool = field(init=False)
    answers_none: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        for name in ("retry", "timeout", "pivot", "read_only", "atomic", "not_done_on"):
            object.__setattr__(self, name, getattr(self.step, name))
        object.__setattr__(self, "probes", defines(self.type, "probe"))
        object.__setattr__(self, "answers_none", arguments_of(self.type, Step)[1] in (None, type(None)))

    @property
    def type(self) -> type[Step[Any, Any]]:
        """The step's class."""
        return self.step if isinstance(self.step, type) else type(self.step)

    @property
    def kind(self) -> str:
        """How the step can be undone, in a word; part of the stored outline."""
        if self.pivot:
            return "pivot"
        return "read_only" if self.read_only else "step"

    def encode_response(self, response: Any) -> str | None:
        """A response as it is stored: JSON text, or None where the step answers nothing. Raises `NotStorable`."""
        if response is None and self.answers_none:
            return None
        return self.response.encode(response, where=f"the response of step {self.name!r}")

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
class Definition:
    """A whole saga: its steps in order, and what holds for all of them."""

    name: str
    version: int
    steps: tuple[Leaf, ...]
    context_type: Any
    codec: Codec[Any]
    timeout: float | None = None
    on_undo_failure: UndoFailurePolicy = "park"
    grace: float = DEFAULT_GRACE
    by_path: dict[str, Leaf] = field(init=False)
    outline: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "by_path", {leaf.path: leaf for leaf in self.steps})
        object.__setattr__(self, "outline", outline_of(self.steps))

    def name_at(self, path: str) -> str:
        """The name of the step at a path; empty for the whole saga."""
        return self.by_path[path].name if path in self.by_path else ""

    def leaf_of(self, step: object) -> Leaf | None:
        """The place of a step class or step name in this saga, or None."""
        for leaf in self.steps:
            if step in (leaf.name, leaf.type, leaf.step):
                return leaf
        return None

    def difference(self, name: str, version: int, outline: str) -> str | None:
        """How a stored saga differs from this definition, in words; None if its log fits."""
        if name != self.name:
            return f"it is a saga {name!r}, and the code is {self.name!r}"
        if version != self.version:
            return f"it was started by version {version}, and the code is version {self.version}"
        if outline != self.outline:
            return f"it was started with the steps {words_of(outline)}, and the code has {words_of(self.outline)}"
        return None


def outline_of(steps: tuple[Leaf, ...]) -> str:
    """The stored form of a saga's shape: JSON of ``[path, name, kind]`` in order."""
    return json.dumps([[leaf.path, leaf.name, leaf.kind] for leaf in steps], separators=(",", ":"))


def words_of(outline: str) -> str:
    """A stored outline as a person reads it: ``1 ReserveInventory, 2 ChargePayment (pivot)``."""
    rows: list[list[str]] = json.loads(outline)
    return ", ".join(f"{path} {name}" + (f" ({kind})" if kind != "step" else "") for path, name, kind in rows)


def is_async(method: Callable[..., Any]) -> bool:
    """Whether calling this method gives a coroutine; anything else is called in a worker thread."""
    return _is_coroutine_function(getattr(method, "__func__", method))


@lru_cache(maxsize=4096)
def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def is_outcome(answer: object) -> bool:
    """Whether a probe's answer is one."""
    return isinstance(answer, Outcome)
