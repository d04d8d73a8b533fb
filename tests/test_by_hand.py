"""A coroutine awaited by hand does what one does that is awaited."""

from __future__ import annotations

from contextvars import ContextVar, copy_context

import anyio
import pytest

from anysaga._by_hand import by_hand

pytestmark = pytest.mark.anyio

name: ContextVar[str] = ContextVar("name", default="outside")


async def answers(waits: int) -> int:
    for _ in range(waits):
        await anyio.lowlevel.checkpoint()
    return waits


@pytest.mark.parametrize("waits", [0, 1, 3])
async def test_it_gives_what_the_coroutine_returns(waits: int) -> None:
    assert await by_hand(answers(waits)) == waits


@pytest.mark.parametrize("waits", [0, 1])
async def test_it_raises_what_the_coroutine_raises(waits: int) -> None:
    async def fails() -> None:
        await answers(waits)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await by_hand(fails())


@pytest.mark.parametrize(("waits", "times"), [(0, 0), (1, 1), (3, 1)])
async def test_it_says_once_that_the_coroutine_waits(waits: int, times: int) -> None:
    said: list[None] = []
    await by_hand(answers(waits), before_waiting=lambda: said.append(None))
    assert len(said) == times


async def test_a_cancellation_arrives_inside() -> None:
    arrived: list[type[BaseException]] = []

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            arrived.append(type(cancelled))
            raise

    with anyio.CancelScope() as scope:
        scope.cancel()
        await by_hand(waits())
    assert arrived == [anyio.get_cancelled_exc_class()]
    assert scope.cancelled_caught


async def test_each_stretch_runs_in_what_is_around_it() -> None:
    """Context variables of a context that is not the task's hold before and after a wait, and are gone outside."""
    seen: list[str] = []

    async def looks() -> None:
        name.set("inside")
        await anyio.lowlevel.checkpoint()
        seen.append(name.get())

    context = copy_context()
    await by_hand(looks(), around=context.run)
    assert seen == ["inside"]
    assert (name.get(), context[name]) == ("outside", "inside")
