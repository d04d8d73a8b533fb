"""A saga as the engine sees it: compiled once from what the user declared, and immutable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from anysaga._event_map import EventMap
from anysaga._nodes import Leaf, Node, leaves_of
from anysaga._retry import Retry
from anysaga._snapshot import Codec
from anysaga._step import Step

DEFAULT_COMPENSATE_RETRY = Retry(attempts=3, delay=1.0, backoff=2.0)
DEFAULT_GRACE = 10.0

UndoFailurePolicy = Literal["park", "continue"]


@frozen(eq=False)
class Definition:
    """A whole saga: its nodes in order, all its steps (`leaves`), and what holds for all of them.

    `context_name` is how messages name a context. `ready_steps` are the steps by path, if none is to be made first.
    """

    name: str
    version: int
    steps: tuple[Node, ...]
    context_type: Any
    codec: Codec[Any]
    timeout: float | None = None
    on_undo_failure: UndoFailurePolicy = "park"
    grace: float = DEFAULT_GRACE
    events: EventMap = field(factory=EventMap)
    leaves: tuple[Leaf, ...] = field(init=False)
    by_path: dict[str, Leaf] = field(init=False)
    outline: str = field(init=False)
    context_name: str = field(init=False)
    shares_circuits: bool = field(init=False)
    ready_steps: Mapping[str, Step[Any, Any]] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        leaves = tuple(leaf for node in self.steps for leaf in leaves_of(node))
        object.__setattr__(self, "leaves", leaves)
        object.__setattr__(self, "by_path", {leaf.path: leaf for leaf in leaves})
        object.__setattr__(self, "outline", outline_of(leaves))
        object.__setattr__(self, "context_name", f"the context of saga {self.name!r}")
        shares = any(getattr(leaf.breaker, "shared", False) for leaf in leaves)
        object.__setattr__(self, "shares_circuits", shares)
        ready = {leaf.path: leaf.step for leaf in leaves if not isinstance(leaf.step, type)}
        object.__setattr__(self, "ready_steps", ready if len(ready) == len(leaves) else None)

    def name_at(self, path: str) -> str:
        """The name of the step at a path; empty for the whole saga."""
        return self.by_path[path].name if path in self.by_path else ""

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
    try:
        rows = steps_in(outline)
    except ValueError:
        return "(which cannot be read)"
    return ", ".join(f"{path} {name}" + (f" ({kind})" if kind != "step" else "") for path, name, kind in rows)


def steps_in(outline: str) -> list[tuple[str, str, str]]:
    """Path, name and kind of each step of a stored outline. Raises `ValueError` if it is none."""
    rows = json.loads(outline)
    if not isinstance(rows, list):
        raise ValueError(outline)  # noqa: TRY004 - as for any other text that is no outline
    return [_three_texts(row) for row in rows]


def _three_texts(row: object) -> tuple[str, str, str]:
    match row:
        case [str(path), str(name), str(kind)]:
            return path, name, kind
        case _:
            raise ValueError(row)
