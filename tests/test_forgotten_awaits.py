"""A step that returns what it should have awaited: nothing of that has begun, and nothing may count as done."""

from __future__ import annotations

from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from journeys import Journey, saga_of

from anysaga import Middleware, NextStep, Saga, Step, StepCall
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


class Bank:
    def __init__(self) -> None:
        self.did: list[str] = []

    async def do(self, what: str) -> str:
        await checkpoint()
        self.did.append(what)
        return what


class Charge(Step[Journey, str]):
    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def act(self, journey: Journey) -> str:
        return self.bank.do("charge")  # type: ignore[return-value]  # the forgotten `await`

    async def compensate(self, journey: Journey) -> None:
        return self.bank.do("refund")  # type: ignore[return-value]  # as above


class Fail(Step[Journey]):
    atomic = True

    async def act(self, journey: Journey) -> None:
        raise ValueError("no more")

    async def compensate(self, journey: Journey) -> None: ...


class Passing(Middleware):
    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        return await call_next()


@pytest.mark.parametrize("middlewares", [[], [Passing()]], ids=["bare", "around"])
async def test_what_a_step_returns_unawaited_is_awaited(storage: Storage, middlewares: list[Middleware]) -> None:
    """The charge was made, and the refund, before the saga says so."""
    bank = Bank()
    saga: Saga[Journey] = saga_of(storage, Charge(bank), Fail(), middlewares=middlewares)
    with pytest.raises(ValueError, match="no more"):
        await saga.run(Journey())
    assert bank.did == ["charge", "refund"]
