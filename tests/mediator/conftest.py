"""What the tests of the mediator share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from journeys import Journey, saga_of

from anysaga import SagaMap, SagaMediator, Step
from anysaga.abc import Storage


@pytest.fixture
def mediator_of(storage: Storage) -> Callable[..., SagaMediator]:
    """Give a function that makes a mediator for one saga of these steps."""

    def make(*steps: Step[Any, Any], grace: float = 1.0, **options: Any) -> SagaMediator:
        sagas = SagaMap()
        sagas.bind(Journey, saga_of(None, *steps, grace=grace))
        return SagaMediator(sagas, storage=storage, **options)

    return make
