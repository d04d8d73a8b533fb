"""The predecessor's users keep their breaker: the real aiobreaker behind a Fallback."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from trips import Book, Trip, raises, trip_of

from anysaga import CircuitOpen, Fallback, InvalidArgument, integrations
from anysaga.abc import Breaker, Storage

pytest.importorskip("aiobreaker", reason="aiobreaker is not installed")

from aiobreaker import CircuitBreakerState  # type: ignore[import-untyped]
from aiobreaker.storage.memory import CircuitMemoryStorage  # type: ignore[import-untyped]

from anysaga.integrations import AioBreakerAdapter

pytestmark = pytest.mark.anyio


def test_it_is_a_breaker() -> None:
    assert isinstance(AioBreakerAdapter(), Breaker)


@pytest.mark.parametrize(
    "options",
    [
        {"fail_max": 0},
        {"fail_max": "2"},
        {"timeout_duration": "60"},
        {"timeout_duration": float("inf")},
        {"exclude": 5},
        {"fails_max": 2},
        {"storage_factory": 5},
    ],
)
def test_what_cannot_work_is_refused_before_a_step_needs_it(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        AioBreakerAdapter(**options)


async def test_after_two_failing_sagas_the_third_does_not_call_the_primary(storage: Storage, did: list[str]) -> None:
    breaker = AioBreakerAdapter(fail_max=2, timeout_duration=60)
    saga = trip_of(storage, Fallback(Book("a", did, act=raises(OSError())), Book("b", did), circuit_breaker=breaker))
    for _ in range(3):
        await saga.run(Trip())
    assert did == ["act a", "undo a", "act b"] * 2 + ["act b"]
    assert breaker.circuit("trip:1/primary").current_state.name == "OPEN"


async def test_each_step_has_a_state_storage_of_its_own_from_the_factory() -> None:
    """One that all steps share would open the circuits of all when one of them fails."""
    made: dict[str, CircuitMemoryStorage] = {}

    def make(step: str) -> CircuitMemoryStorage:
        return made.setdefault(step, CircuitMemoryStorage(CircuitBreakerState.CLOSED))

    breaker = AioBreakerAdapter(fail_max=1, storage_factory=make)
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s"):
            raise OSError("mine")
    async with breaker.attempt("t"):
        pass
    states = {step: storage.state for step, storage in made.items()}
    assert states == {"s": CircuitBreakerState.OPEN, "t": CircuitBreakerState.CLOSED}


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def local_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be somewhere on earth: aiobreaker itself takes the local time for UTC."""
    if not hasattr(time, "tzset"):
        pytest.skip("the local time cannot be chosen here")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


async def test_an_open_circuit_says_for_how_long(local_time: None) -> None:
    breaker = AioBreakerAdapter(fail_max=1, timeout_duration=timedelta(seconds=60))
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s"):
            raise OSError("mine")
    with pytest.raises(CircuitOpen) as caught:
        async with breaker.attempt("s"):
            raise AssertionError
    assert 50 < caught.value.seconds <= 60


async def test_excluded_errors_do_not_open_it() -> None:
    breaker = AioBreakerAdapter(fail_max=1, exclude=(KeyError,))
    with pytest.raises(KeyError):
        async with breaker.attempt("s"):
            raise KeyError
    async with breaker.attempt("s"):
        assert breaker.circuit("s").fail_counter == 0


async def test_a_cancellation_is_neither_failure_nor_success() -> None:
    breaker = AioBreakerAdapter(fail_max=2)
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s"):
            raise OSError("mine")
    with anyio.CancelScope() as scope:
        async with breaker.attempt("s"):
            scope.cancel()
            await anyio.sleep_forever()
    assert breaker.circuit("s").fail_counter == 1


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anysaga.integrations._aiobreaker", raising=False)
    monkeypatch.setitem(sys.modules, "aiobreaker", None)
    monkeypatch.delattr(integrations, "AioBreakerAdapter", raising=False)
    with pytest.raises(ImportError, match=r"anysaga\[aiobreaker\]"):
        _ = integrations.AioBreakerAdapter
