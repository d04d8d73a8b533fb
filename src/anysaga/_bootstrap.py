"""A mediator from one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anysaga._middleware import Middleware
from anysaga._wiring import GivenContainer
from anysaga.abc import Storage
from anysaga.mediator import Hook, SagaMap, SagaMediator


def bootstrap(
    di_container: GivenContainer | None,
    sagas_mapper: Callable[[SagaMap], object],
    *,
    saga_storage: Storage | None = None,
    middlewares: Iterable[Middleware] = (),
    on_startup: Iterable[Hook] = (),
) -> SagaMediator:
    """Make a `SagaMediator` from functions that fill its maps.

    - `di_container`: makes the steps and what they need; what `Saga` accepts as its `container`.
    - `sagas_mapper`: is given a `SagaMap`, and binds contexts to their sagas.
    - `saga_storage`: keeps the sagas. Without one nothing survives the process.
    - `middlewares`: stand around every saga, and around every call of its steps, the first one outermost.
    - `on_startup`: functions without arguments, plain or async, each called once before the first saga.

    Plain, and without any I/O: use the mediator as it is, or better with ``async with``; see `SagaMediator`.

        def bind_sagas(sagas: SagaMap) -> None:
            sagas.bind(Order, OrderSaga)

        mediator = bootstrap(di_container=container, sagas_mapper=bind_sagas, saga_storage=storage)
        async for step in mediator.stream(Order("17"), saga_id="order-17"):
            print(step.step_name)
    """
    sagas = SagaMap()
    sagas_mapper(sagas)
    return SagaMediator(
        sagas, storage=saga_storage, container=di_container, middlewares=middlewares, on_startup=on_startup
    )
