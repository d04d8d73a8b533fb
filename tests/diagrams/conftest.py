"""The Mermaid parser, once for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from mermaid_parser import MermaidParser, NoParser, mermaid_parser


@pytest.fixture(scope="session")
def parser() -> Iterator[MermaidParser]:
    """Give the real parser. Without it a test is skipped; with `ANYSAGA_REQUIRE_SERVICES=1` it fails."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(mermaid_parser())
        except NoParser as missing:
            sentence = f"no Mermaid parser here: {missing}"
        else:
            yield made
            return
    if os.environ.get("ANYSAGA_REQUIRE_SERVICES") == "1":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
