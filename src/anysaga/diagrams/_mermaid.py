"""The door to the diagrams."""

from __future__ import annotations

from typing import Any

from anysaga._definition import Definition
from anysaga._errors import InvalidArgument
from anysaga._saga import Saga
from anysaga.diagrams._classes import class_diagram
from anysaga.diagrams._flow import flow
from anysaga.diagrams._sequence import sequence


class SagaMermaid:
    """A saga as Mermaid text, for documentation and reviews: what GitHub, GitLab and mkdocs show as a picture.

    Takes a saga class or a saga. Only its definition is read: nothing is run, made or stored. Names of any characters
    are written so that Mermaid accepts and shows them.

        print(SagaMermaid(OrderSaga).sequence())

    Raises `InvalidArgument` for anything else, and for a class without steps.
    """

    def __init__(self, saga: Saga[Any] | type[Saga[Any]]) -> None:
        self._definition = _definition_of(saga)

    def sequence(self) -> str:
        """The calls in their order: all acts, and what is undone, in reverse, when a step fails."""
        return sequence(self._definition)

    def class_diagram(self) -> str:
        """The saga, its steps, Fallbacks and Parallels, and the types that they work on and answer."""
        return class_diagram(self._definition)

    def flow(self) -> str:
        """The ways through the saga: forwards, backwards, and to the states in which it ends."""
        return flow(self._definition)


def _definition_of(saga: object) -> Definition:
    if isinstance(saga, Saga):
        return saga.definition
    if isinstance(saga, type) and issubclass(saga, Saga) and saga._compiled is not None:
        return saga._compiled
    raise InvalidArgument("saga", saga, "give a class derived from anysaga.Saga that has `steps`, or a saga")
