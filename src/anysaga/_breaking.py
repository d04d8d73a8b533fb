"""Calls through a circuit breaker, which is told how they ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from attrs import evolve

from anysaga._calls import Ended, How
from anysaga._current import CurrentStep
from anysaga._errors import CircuitOpen, StaleFence

_log = logging.getLogger("anysaga.breaker")


class SaysNothing(BaseException):
    """Tells a breaker that a call says nothing about the service: it was not reached, or not given its time."""


class CallStopped(SaysNothing):
    """Another branch failed, and withdrew the intent of a call that did not begin yet."""


async def call_through(
    attempt: AbstractAsyncContextManager[object],
    calling: Callable[[], Awaitable[Ended]],
    said: Callable[[Ended], BaseException | None],
    current: CurrentStep,
) -> Ended | None:
    """Call inside of `attempt`, which lets it or not. None: it was a `CallStopped`.

    `said` is what the breaker is told of the end: the error of a failure, what is neither failure nor success, or None.
    A `StaleFence` of both comes out as it is.
    """
    ended: Ended | None = None
    told: BaseException | None = None
    lost: StaleFence | None = None
    try:
        async with attempt:
            try:
                ended = await calling()
                told = said(ended)
            except StaleFence as error:
                lost = error
                raise SaysNothing from error
            if told is not None:
                raise told  # noqa: TRY301 - so that leaving tells it
    except BaseException as error:  # noqa: ASYNC103 - raised by the caller, once the end is recorded
        if lost is not None:
            raise lost from None  # noqa: ASYNC104 - raised instead of what told the breaker
        if ended is None:
            if isinstance(error, CallStopped):
                return None  # noqa: ASYNC104 - as above
            if isinstance(error, CircuitOpen):
                return Ended(How.REFUSED, error=error)  # noqa: ASYNC104 - as above
            raise
        return ended if error is told else _untold(ended, error, current)  # noqa: ASYNC104 - as above
    else:
        return ended
    finally:
        ended = told = None  # its error holds this frame: together they would wait for the garbage collector


def _untold(ended: Ended, error: BaseException, current: CurrentStep) -> Ended:
    """The breaker could not be told how a call ended: what became of the act is more important, and is recorded."""
    if not isinstance(error, Exception):
        return evolve(ended, cancelled=ended.cancelled or error)
    _log.warning("the breaker of %s was not told how it ended: %s", current.key, type(error).__name__)
    return ended
