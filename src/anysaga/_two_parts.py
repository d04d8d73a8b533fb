"""A coroutine that is run in two parts, as an asynchronous context manager is, though it awaits a function instead."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class TwoParts(Generic[_T]):
    """Runs ``function(pause)`` up to where it awaits ``pause()``, and later from there to its end.

    Both parts are to be run in one task. No task, scope or generator is held open in between by this itself. `runs` is
    true while the coroutine's own code runs, and false while another task's does.
    """

    runs: bool = False

    def __init__(self, function: Callable[[Callable[[], Awaitable[_T]]], Coroutine[Any, Any, object]]) -> None:
        self._coroutine = function(self._pause)

    async def begin(self) -> bool:
        """Run the first part. False if it never paused, and is over. Raises what it raises."""
        return await self._advance(lambda: self._coroutine.send(None))

    async def go_on(self, result: _T) -> bool:
        """Run the second part, where the pause returns `result`. True if it paused again."""
        return await self._advance(lambda: self._coroutine.send(result))

    async def go_on_with(self, error: BaseException) -> bool:
        """Run the second part, where the pause raises `error`. True if it paused again."""
        return await self._advance(lambda: self._coroutine.throw(error))

    async def _pause(self) -> _T:
        return await self._yield_to_us()

    @types.coroutine
    def _yield_to_us(self) -> Generator[Any, _T, _T]:
        return (yield self)

    @types.coroutine
    def _advance(self, resume: Callable[[], Any]) -> Generator[Any, Any, bool]:
        self.runs = True
        try:
            waits_for = resume()
            while waits_for is not self:
                self.runs = False
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001, ASYNC103 - raised again inside
                    self.runs = True
                    waits_for = self._coroutine.throw(error)
                else:
                    self.runs = True
                    waits_for = self._coroutine.send(sent)
        except StopIteration:
            return False
        finally:
            self.runs = False
        return True
