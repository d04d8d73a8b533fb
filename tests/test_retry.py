"""The laws of `Retry`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysaga._errors import InvalidArgument
from anysaga._retry import MAX_BACKOFF, Retry, backed_off

seconds = st.floats(min_value=0, max_value=1e6)
factors = st.floats(min_value=1, max_value=1e6)
attempts = st.integers(min_value=1, max_value=10_000)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True])
def test_attempts_is_a_whole_number_from_1(value: object) -> None:
    """`attempts` counts all attempts, the first included, so anything but 1, 2, … is refused."""
    with pytest.raises(InvalidArgument, match=r"attempts=.* give a whole number of attempts, 1 or more") as caught:
        Retry(attempts=value)  # type: ignore[arg-type] # what is refused

    assert (caught.value.name, caught.value.value) == ("attempts", value)


@pytest.mark.parametrize(("name", "least"), [("delay", 0), ("backoff", 1), ("max_delay", 0), ("jitter", 0)])
class TestNumbers:
    """Each number has a least value, and is finite."""

    def test_the_least_value_works(self, name: str, least: float) -> None:
        assert getattr(Retry(**{name: least}), name) == least  # type: ignore[arg-type] # a name from the table

    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e10, 10**400, "1", None, 1j])
    def test_what_is_no_finite_number_is_refused(self, name: str, least: float, wrong: object) -> None:
        with pytest.raises(InvalidArgument, match=f"{name}=.* give a finite number of {least} or more"):
            Retry(**{name: wrong})  # type: ignore[arg-type] # what is refused

    def test_less_is_refused(self, name: str, least: float) -> None:
        with pytest.raises(InvalidArgument, match=f"{name}=.* give a finite number of {least} or more"):
            Retry(**{name: math.nextafter(least, -math.inf)})  # type: ignore[arg-type] # a name from the table


@pytest.mark.parametrize("wrong", [None, "ConnectionError", int, (), (ConnectionError, int), ((ConnectionError,),)])
def test_on_names_errors(wrong: object) -> None:
    """`on` is an exception type, a tuple of at least one, or a function; anything else is refused."""
    with pytest.raises(InvalidArgument, match="give an exception type, a tuple of them, or a function of the error"):
        Retry(on=wrong)  # type: ignore[arg-type] # what is refused


@pytest.fixture(params=["type", "tuple", "function"])
def on(request: pytest.FixtureRequest) -> type[Exception] | tuple[type[Exception], ...] | Callable[[object], bool]:
    """All ways to say: an OSError is worth another attempt."""
    ways = {
        "type": OSError,
        "tuple": (ZeroDivisionError, OSError),
        "function": lambda error: isinstance(error, OSError),
    }
    return ways[request.param]  # type: ignore[return-value] # a dict of unlike values


def test_matches_what_on_names(on: type[Exception]) -> None:
    """Errors that `on` names, their subclasses included, are worth another attempt; others are not."""
    retry = Retry(on=on)

    assert retry.matches(OSError())
    assert retry.matches(ConnectionError())
    assert not retry.matches(ValueError())


def test_matches_every_error_by_default() -> None:
    """Without `on` every error is worth another attempt, but no cancellation and no Ctrl-C."""
    assert Retry().matches(ValueError())
    assert not Retry().matches(KeyboardInterrupt())


def test_answers_of_a_function_become_bools() -> None:
    """A function may answer with anything that is true or false."""
    assert Retry(on=lambda error: error.args).matches(ValueError("text")) is True  # type: ignore[arg-type, return-value] # on purpose
    assert Retry(on=lambda error: error.args).matches(ValueError()) is False  # type: ignore[arg-type, return-value] # on purpose


def test_waits_grow_to_their_limit() -> None:
    """The wait is `delay`, then `backoff` times as long each time, and never more than `max_delay`."""
    retry = Retry(attempts=6, delay=0.5, backoff=3.0, max_delay=10.0)

    assert [retry.wait_after(attempt) for attempt in range(1, 6)] == [0.5, 1.5, 4.5, 10.0, 10.0]


@given(delay=seconds, backoff=factors, max_delay=seconds, attempt=attempts)
def test_waits_never_shrink(delay: float, backoff: float, max_delay: float, attempt: int) -> None:
    """Without jitter a later wait is at least as long as an earlier one, finite, and at most `max_delay`."""
    retry = Retry(delay=delay, backoff=backoff, max_delay=max_delay)

    assert 0 <= retry.wait_after(attempt) <= retry.wait_after(attempt + 1) <= max_delay


@given(delay=seconds, attempt=attempts)
def test_jitter_adds_a_share(delay: float, attempt: int) -> None:
    """Jitter makes a wait longer by at most its share, never shorter."""
    plain = Retry(delay=delay).wait_after(attempt)

    assert plain <= Retry(delay=delay, jitter=0.1).wait_after(attempt) <= plain * 1.1


def test_a_wait_ends_at_a_moment_that_stores_keep() -> None:
    """However large the numbers, and they are allowed: else the failure of a step could not be recorded."""
    assert Retry(delay=1e9, max_delay=1e9, jitter=1e9).wait_after(9) <= 1e9


def test_jitter_spreads() -> None:
    """With jitter not all waits are equal."""
    retry = Retry(jitter=0.5)

    assert len({retry.wait_after(1) for _ in range(20)}) > 1


def test_a_number_too_large_is_the_longest_wait() -> None:
    """A wait that no float can hold is `max_delay`."""
    assert Retry(backoff=10.0, max_delay=60.0).wait_after(1_000_000) == 60.0


@pytest.mark.parametrize("attempt", [1, 2, 1_000_000])
def test_no_delay_stays_no_delay(attempt: int) -> None:
    """With `delay=0` there is no wait, however many attempts there were."""
    assert Retry(delay=0.0, jitter=1.0).wait_after(attempt) == 0.0


def test_a_value() -> None:
    """Two policies with equal arguments are equal, and none can be changed."""
    assert Retry(delay=2) == Retry(delay=2.0)
    assert hash(Retry()) == hash(Retry())
    with pytest.raises(AttributeError):
        Retry().attempts = 4  # type: ignore[misc] # what is refused


@given(failures=st.integers(min_value=0, max_value=10_000))
def test_looks_at_a_store_that_fails_are_further_apart_each_time_up_to_a_limit(failures: int) -> None:
    wait = backed_off(1.0, failures)
    assert wait == (2**failures if failures < 5 else MAX_BACKOFF)
