"""What the tests of the engine share: a saga that writes down what it does."""

from __future__ import annotations

import pytest
from tours import DONE


@pytest.fixture(autouse=True)
def done() -> list[str]:
    """What the steps write down."""
    made: list[str] = []
    DONE.set(made)
    return made
