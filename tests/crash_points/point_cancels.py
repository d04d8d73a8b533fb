"""Cancelling a coroutine at its n-th scheduling point, on either loop."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

_T = TypeVar("_T")


class Ticks:
    """Counts the points at which a coroutine waits, and calls `act` at those whose numbers are in `at`."""

    def __init__(self, act: Callable[[], object], *at: int) -> None:
        self._act = act
        self._at = set(at)
        self.count = 0

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Await the coroutine step by step."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as end:
                result: _T = end.value
                return result
            self.count += 1
            if self.count in self._at:
                self._act()
            try:
                value, error = (yield waits_for), None
            except BaseException as thrown:  # noqa: ASYNC103, BLE001 - thrown into the coroutine
                value, error = None, thrown
