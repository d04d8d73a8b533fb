"""Awaiting a coroutine stretch by stretch, from one wait to the next, inside the running task."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

_T = TypeVar("_T")


def _call(function: Callable[[Any], Any], argument: Any, /) -> Any:
    return function(argument)


@types.coroutine
def by_hand(
    coroutine: Coroutine[Any, Any, _T],
    *,
    around: Callable[..., Any] = _call,
    before_waiting: Callable[[], object] | None = None,
) -> Generator[Any, Any, _T]:
    """Await `coroutine` with each stretch called through ``around(function, argument)``.

    `before_waiting` is called once, before the coroutine waits for the first time; one that never does is cheaper than
    what would have to be ready in case it does. The same as awaiting it in all else.
    """
    try:
        waits_for = around(coroutine.send, None)
        if before_waiting is not None:
            before_waiting()
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001, ASYNC103 - raised again inside
                waits_for = around(coroutine.throw, error)
            else:
                waits_for = around(coroutine.send, sent)
    except StopIteration as end:
        value: _T = end.value
        return value
