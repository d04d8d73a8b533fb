"""I15: what a field marked secret holds appears in no stored error, no note, no repr and no warning."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from journeys import CARD, Journey, Leg, ProbedLeg, raises, saga_of

from anysaga import ContextChangedWarning, NotStorable, SagaCompensated, SagaMismatch, SagaParked, SagaState, recover
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


def everything_told_of(error: BaseException) -> str:
    """The text of an error of ours, with its notes and fields."""
    return f"{error} {error!r} {getattr(error, '__notes__', '')} {error.args}"


async def told_by(storage: Storage, saga_id: str) -> str:
    """All that a person may see of a stored saga: what is only for the engine (context, response) has no repr."""
    record = await storage.load(saga_id)
    return repr(record)


async def test_an_error_of_an_act_is_stored_without_the_secret(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, act=raises(ConnectionError(f"card {CARD} refused")))
    with pytest.raises(ConnectionError):
        await saga_of(storage, leg).run(Journey(), saga_id="j")
    told = await told_by(storage, "j")
    assert "ConnectionError: card" in told
    assert CARD not in told


async def test_an_error_of_an_undo_is_stored_and_raised_without_the_secret(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, undo=raises(OSError(f"card {CARD} refused")))
    with pytest.raises(SagaParked) as caught:
        await saga_of(storage, leg, Leg("b", did, act=raises(KeyError()))).run(Journey(), saga_id="j")
    assert "OSError: card" in str(caught.value)
    assert CARD not in everything_told_of(caught.value)
    assert CARD not in await told_by(storage, "j")


async def test_an_error_of_a_probe_is_stored_without_the_secret(storage: Storage, did: list[str]) -> None:
    def answer() -> Any:
        raise OSError(CARD)

    with pytest.raises(KeyError):
        await saga_of(storage, ProbedLeg("a", did, act=raises(KeyError()), answer=answer)).run(Journey(), saga_id="j")
    told = await told_by(storage, "j")
    assert "PROBED" in told
    assert CARD not in told


async def test_an_error_of_the_body_is_stored_without_the_secret(storage: Storage, did: list[str]) -> None:
    with pytest.raises(KeyError) as caught:
        async with saga_of(storage, Leg("a", did)).transaction(Journey(), saga_id="j"):
            raise KeyError(CARD)
    assert CARD not in await told_by(storage, "j")
    assert CARD not in "".join(caught.value.__notes__)


async def test_a_reason_to_abort_is_stored_without_the_secret(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.abort(f"card {CARD} refused")
    assert (await storage.load("j")).summary.note == "card *** refused"
    assert CARD not in await told_by(storage, "j")


async def test_a_secret_that_an_act_has_changed_is_hidden_old_and_new(storage: Storage, did: list[str]) -> None:
    async def act(journey: Journey) -> None:
        journey.card = "5500-0000-0000-0004"
        raise OSError(f"moved from {CARD} to {journey.card}")

    with pytest.raises(OSError, match="moved"):
        await saga_of(storage, Leg("a", did, act=act)).run(Journey(), saga_id="j")
    told = await told_by(storage, "j")
    assert "moved from" in told
    assert CARD not in told
    assert "5500-0000" not in told


async def test_errors_about_a_context_that_cannot_be_stored_name_the_field_and_not_the_value(
    storage: Storage, did: list[str]
) -> None:
    with pytest.raises(NotStorable, match="card") as caught:
        await saga_of(storage, Leg("a", did)).run(Journey(card="4111\0"), saga_id="j")
    assert "4111" not in everything_told_of(caught.value)


async def test_a_mismatch_of_payloads_shows_neither(storage: Storage, did: list[str]) -> None:
    await saga_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    with pytest.raises(SagaMismatch) as caught:
        await saga_of(storage, Leg("a", did)).run(Journey(card="5500-0000"), saga_id="j")
    assert CARD not in everything_told_of(caught.value)
    assert "5500" not in everything_told_of(caught.value)


async def test_the_warning_about_a_changed_context_shows_no_value(storage: Storage, did: list[str]) -> None:
    mine = Journey()
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(mine) as transaction:
        await anext(transaction)
        mine.card = "5500-0000"
        with pytest.warns(ContextChangedWarning) as caught:
            await anext(transaction)
    assert not any(card in str(warning.message) for warning in caught for card in (CARD, "5500"))


async def test_results_and_contexts_have_no_secret_in_their_repr(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did)).transaction(Journey()) as transaction:
        await transaction.run_to_end()
    for shown in (transaction, transaction.result, transaction.context, storage):
        assert CARD not in repr(shown)


async def test_a_later_run_is_told_the_cause_without_the_secret(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(OSError(f"card {CARD} refused"))))
    with pytest.raises(OSError, match="card"):
        await saga.run(Journey(), saga_id="j")
    with pytest.raises(SagaCompensated, match="card") as caught:
        await saga.run(saga_id="j")
    assert CARD not in everything_told_of(caught.value)


async def test_recovery_logs_and_returns_no_secret(
    storage: Storage, did: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    leg = Leg("b", did, act=raises(OSError(f"card {CARD} refused")))
    saga = saga_of(storage, Leg("a", did), leg)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    (result,) = await recover([saga], storage=storage)
    assert result.state is SagaState.COMPENSATED
    assert "OSError: card" in (result.reason or "")
    assert CARD not in repr(result)
    assert CARD not in caplog.text
