"""Work side by side: its limit, its order, and its errors as they are."""

from __future__ import annotations

import anyio
import pytest

from anysaga import StaleFence
from anysaga._together import run_together

pytestmark = pytest.mark.anyio


async def nothing() -> None:
    """After the last piece of work."""


async def test_all_is_done_when_it_returns() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        await anyio.lowlevel.checkpoint()
        done.append(item)

    await run_together(range(5), work, limit=2, after=nothing)
    assert sorted(done) == [0, 1, 2, 3, 4]


async def test_a_limit_of_one_keeps_the_order() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        await anyio.lowlevel.checkpoint()
        done.append(item)

    await run_together(range(5), work, limit=1, after=nothing)
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("waits", "workers"), [(True, 2), (False, 1)])
async def test_what_comes_after_comes_once_for_each_worker_that_did_something(*, waits: bool, workers: int) -> None:
    """One whose work never waits leaves none to the others."""
    after: list[str] = []

    async def work(item: int) -> None:
        after.append("work")
        if waits:
            await anyio.wait_all_tasks_blocked()

    async def settle() -> None:
        after.append("after")

    await run_together(range(4), work, limit=2, after=settle)
    assert after.count("after") == workers
    assert after[-1] == "after"


async def test_an_error_cancels_the_rest_and_comes_out_alone() -> None:
    ended: list[str] = []

    async def work(item: str) -> None:
        if item == "fails":
            raise KeyError(item)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(item)

    with pytest.raises(KeyError):
        await run_together(["waits", "fails", "waits too"], work, limit=3, after=nothing)
    assert "waits" in ended


async def test_the_loss_of_a_claim_is_raised_only_where_there_is_nothing_else() -> None:
    async def work(item: int) -> None:
        if item == 0:
            raise StaleFence("s", 1)
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        raise OSError("the cause")

    with pytest.raises(OSError, match="the cause"):
        await run_together(range(2), work, limit=2, after=nothing)
    with pytest.raises(StaleFence):
        await run_together(range(1), work, limit=2, after=nothing)


async def test_the_scope_that_is_handed_out_ends_it_quietly() -> None:
    scopes: list[anyio.CancelScope] = []
    began: list[int] = []

    async def work(item: int) -> None:
        began.append(item)
        scopes[0].cancel()
        await anyio.sleep_forever()

    await run_together(range(3), work, limit=1, after=nothing, scopes=scopes.append)
    assert began == [0]


async def test_a_cancellation_from_outside_goes_through() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_together(range(3), lambda _: anyio.sleep_forever(), limit=2, after=nothing)
    assert scope.cancelled_caught
