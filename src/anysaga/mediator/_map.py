"""Which saga is meant by which context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_origin

from anysaga._errors import ContextAlreadyMapped, ContextNotMapped, InvalidArgument, SagaMismatch, SagaOfOtherContext
from anysaga._records import SagaSummary
from anysaga._saga import Saga, made_saga, refuse_namesake

ContextT = TypeVar("ContextT")


class SagaMap:
    """Sagas by the types of their contexts.

        sagas = SagaMap()
        sagas.bind(Order, OrderSaga)

    A context finds its saga by its very own type; a subclass needs a `bind` of its own. An object does not know the
    arguments of a generic class, so such a class starts one saga.
    """

    def __init__(self) -> None:
        self._sagas: dict[Any, Saga[Any]] = {}

    def bind(self, context_type: type[ContextT], saga: type[Saga[ContextT]] | Saga[ContextT]) -> None:
        """Say which saga a context of this type starts.

        Raises `ContextAlreadyMapped` if there is one, `SagaOfOtherContext` if the saga works on another type,
        `InvalidArgument` if another saga has its name and version, and `DefinitionError` if it has no steps.
        """
        if isinstance(context_type, str) or not callable(context_type):
            raise InvalidArgument("context_type", context_type, "give the class of the contexts, and then the saga")
        made = made_saga(saga)
        definition = made.definition
        own = definition.context_type
        if own is not Any and context_type not in (own, _class_of(own)):
            raise SagaOfOtherContext(_name(context_type), definition.name, _name(own))
        key = _class_of(context_type)
        if key in self._sagas:
            raise ContextAlreadyMapped(_name(context_type), definition.name, self._sagas[key].definition.name)
        refuse_namesake(made, self)
        self._sagas[key] = made

    def prepared(self, prepare: Callable[[Saga[Any]], Saga[Any]]) -> SagaMap:
        """The same map, as it is now, of sagas that were each changed by `prepare`."""
        copied = SagaMap()
        copied._sagas = {kind: prepare(saga) for kind, saga in self._sagas.items()}
        return copied

    def of(self, context: ContextT) -> Saga[ContextT]:
        """The saga for this context. Raises `ContextNotMapped`, and `InvalidArgument` for a class of contexts."""
        if context is None:
            raise InvalidArgument("context", None, "give a context; a stored saga goes on by `resume(saga_id)`")
        saga = self._sagas.get(type(context))
        if isinstance(context, type) and context in self._sagas:
            raise InvalidArgument("context", context, "give an object of this class, not the class itself")
        if saga is None:
            known = tuple(sorted(_name(kind) for kind in self._sagas))
            raise ContextNotMapped(_name(type(context)), known)
        return saga

    def stored(self, summary: SagaSummary) -> Saga[Any]:
        """The saga for one that is stored: of its name, and version if several have it. Raises `SagaMismatch`."""
        named = [saga for saga in self if saga.definition.name == summary.name]
        if not named:
            known = ", ".join(sorted({repr(saga.definition.name) for saga in self})) or "no saga at all"
            raise SagaMismatch(summary.saga_id, f"it belongs to a saga {summary.name!r}, and the map has {known}")
        return next((saga for saga in named if saga.definition.version == summary.version), named[-1])

    def __iter__(self) -> Iterator[Saga[Any]]:
        return iter(self._sagas.values())

    def __len__(self) -> int:
        return len(self._sagas)


def _class_of(kind: Any) -> Any:
    """What ``type(context)`` is for contexts of this type: `Box` for ``Box[int]``."""
    return get_origin(kind) or kind


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)
