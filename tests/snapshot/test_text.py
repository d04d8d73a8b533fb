"""Digests, and texts of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysaga._errors import NotReadable
from anysaga._limits import MAX_ERROR_BYTES
from anysaga._snapshot import digest, fit_error


def test_a_digest_ignores_order_and_spaces() -> None:
    assert digest('{"a":1,"b":[{"c":2,"d":3}]}') == digest('{ "b": [{"d":3, "c":2}], "a": 1 }')


@pytest.mark.parametrize("other", ['{"a":2}', '{"a":1.0}', '{"a":"1"}', '{"a":true}', "{}"])
def test_another_value_has_another_digest(other: str) -> None:
    assert digest('{"a":1}') != digest(other)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000])
def test_a_digest_is_of_json_only(text: str) -> None:
    with pytest.raises(NotReadable):
        digest(text)


@given(st.text(st.characters(), max_size=50), st.integers(1, 1000))
def test_a_fitted_error_is_writable_and_within_the_limit(text: str, times: int) -> None:
    fitted = fit_error(text * times)
    assert "\0" not in fitted
    assert len(fitted.encode()) <= MAX_ERROR_BYTES


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50))
def test_a_text_that_fits_stays_as_it_is(text: str) -> None:
    assert fit_error(text) == text


def test_a_cut_is_marked_and_leaves_whole_characters() -> None:
    fitted = fit_error("ä" * MAX_ERROR_BYTES)
    assert fitted.endswith("ä [cut]")
    assert len(fitted.encode()) > MAX_ERROR_BYTES - 3


def test_nul_and_surrogates_are_replaced() -> None:
    assert fit_error("a\0b\ud800c") == "a\ufffdb\ufffdc"
