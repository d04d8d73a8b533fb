"""Errors that let nothing be said beside them, as frozen dataclasses do, stay what they are, and stop no saga."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from journeys import Journey, Leg, PlainLeg, raises, saga_of

from anysaga import (
    Fallback,
    LoggingMiddleware,
    MemoryStorage,
    Middleware,
    Parallel,
    Retry,
    SagaMap,
    SagaMediator,
    SagaState,
    run_saga,
)
from anysaga._notes import add_note
from anysaga.abc import Storage

WENT_BACK = "saga 'journey' (j) went back, undone: a"


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


@dataclass(frozen=True)
class Declined(Exception):
    code: int


class Silent(Exception):
    """Lets nothing be said in any way."""

    __notes__: Any = "none"


def refused(journey: Journey) -> None:
    raise Declined(1)


def judged_wrongly(error: BaseException) -> bool:
    raise ZeroDivisionError


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{}, {"retry": Retry(on=judged_wrongly)}], ids=["once", "retried"])
@pytest.mark.parametrize("leg", [Leg, PlainLeg])
async def test_a_frozen_error_of_a_step_reaches_the_caller_with_its_note(
    storage: Storage, did: list[str], leg: Any, options: dict[str, Any]
) -> None:
    step = leg("a", did, act=raises(Declined(1)) if leg is Leg else refused, **options)
    with pytest.raises(Declined) as caught:
        await saga_of(storage, step).run(Journey(), saga_id="j")
    assert caught.value.code == 1
    assert caught.value.__notes__[-1] == WENT_BACK
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


@pytest.mark.anyio
async def test_a_fallback_that_fails_with_a_frozen_error_shows_that_of_its_primary(
    storage: Storage, did: list[str]
) -> None:
    """Else it would be left at this point, with nothing undone."""
    steps = Fallback(Leg("a", did, act=raises(Declined(1))), Leg("b", did, act=raises(Declined(2))))
    with pytest.raises(Declined) as caught:
        await saga_of(storage, steps).run(Journey(), saga_id="j")
    assert caught.value.code == 2
    assert caught.value.__context__ == Declined(1)
    assert did == ["act a", "undo a", "act b", "undo b"]
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


@pytest.mark.anyio
async def test_a_frozen_error_of_the_loop_gets_the_note_too(storage: Storage, did: list[str]) -> None:
    with pytest.raises(Declined) as caught:
        async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
            async for _ in transaction:
                raise Declined(3)
    assert caught.value.__notes__ == [WENT_BACK]


@pytest.mark.anyio
@pytest.mark.parametrize("middlewares", [[], [LoggingMiddleware()]], ids=["bare", "logged"])
async def test_a_frozen_error_passes_middlewares_and_a_mediator(
    storage: Storage, did: list[str], middlewares: list[Middleware]
) -> None:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Parallel(Leg("a", did, act=raises(Declined(1))), Leg("b", did))))
    async with SagaMediator(sagas, storage=storage, middlewares=middlewares) as mediator:
        with pytest.raises(Declined):
            await mediator.run(Journey(), saga_id="j")
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


def test_a_frozen_error_comes_out_of_blocking_code(did: list[str]) -> None:
    with pytest.raises(Declined):
        run_saga(saga_of(None, Leg("a", did, act=raises(Declined(1)))), Journey())


def test_what_lets_nothing_be_said_in_any_way_stays_as_it_is() -> None:
    error = Silent()
    add_note(error, "went back")
    assert error.__notes__ == "none"
