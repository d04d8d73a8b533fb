"""What a Fallback asks before each attempt of its primary, and where circuits are kept that processes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from anysaga._records import frozen


@frozen
class CircuitRecord:
    """A circuit as it is stored: `version` is 0 where nothing is. `now` is the store's time in µs."""

    version: int
    text: str
    now: int


class CircuitStore(ABC):
    """Keeps circuits that several processes share. Both verbs are one transaction each."""

    @abstractmethod
    async def load_circuit(self, name: str) -> CircuitRecord:
        """Read a circuit, and the moment."""

    @abstractmethod
    async def save_circuit(self, name: str, text: str, *, before: int) -> bool:
        """Write a circuit if its version still is `before`; the version is one more then. False: it is another one."""


@runtime_checkable
class Breaker(Protocol):
    """What a `Fallback` accepts as its `circuit_breaker`."""

    def attempt(self, step: str, circuits: CircuitStore | None, /) -> AbstractAsyncContextManager[object]:
        """Surround one attempt of the step that is called `step` ("saga:path").

        Entering raises `CircuitOpen` if it may not begin; leaving tells how it ended. `circuits` is the saga's storage,
        if it can keep circuits.
        """
        ...
