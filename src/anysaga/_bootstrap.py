"""A mediator from one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from anysaga._errors import InvalidArgument
from anysaga._event_map import EventMap
from anysaga._middleware import Middleware
from anysaga._signatures import is_plain
from anysaga._wiring import GivenContainer
from anysaga.abc import Publisher, Storage
from anysaga.mediator import Hook, SagaMap, SagaMediator


def bootstrap(
    di_container: GivenContainer | None,
    sagas_mapper: Callable[[SagaMap], object],
    *,
    saga_storage: Storage | None = None,
    domain_events_mapper: Callable[[EventMap], object] | None = None,
    message_broker: Publisher | None = None,
    middlewares: Iterable[Middleware] = (),
    on_startup: Iterable[Hook] = (),
    max_concurrent_event_handlers: int = 1,
    concurrent_event_handle_enable: bool = True,
) -> SagaMediator:
    """Make a `SagaMediator` from functions that fill its maps.

    - `di_container`: makes the steps and what they need; what `Saga` accepts as its `container`.
    - `sagas_mapper`: is given a `SagaMap`, and binds contexts to their sagas.
    - `saga_storage`: keeps the sagas. Without one nothing survives the process.
    - `domain_events_mapper`: is given an `EventMap`, and binds events to their handlers.
    - `message_broker`: sends events to a broker. Without one they go to their handlers only.
    - `middlewares`: stand around every saga, and around every call of its steps, the first one outermost.
    - `on_startup`: functions without arguments, plain or async, each called once before the first saga.
    - `max_concurrent_event_handlers`: how many handlers run at once; 1 if `concurrent_event_handle_enable` is False.

    Plain, and without any I/O: use the mediator as it is, or better with ``async with``; see `SagaMediator`.

        def bind_sagas(sagas: SagaMap) -> None:
            sagas.bind(Order, OrderSaga)

        mediator = bootstrap(di_container=container, sagas_mapper=bind_sagas, saga_storage=storage)
        async for step in mediator.stream(Order("17"), saga_id="order-17"):
            print(step.step_name)
    """
    sagas = SagaMap()
    _fill(sagas, "sagas_mapper", sagas_mapper)
    events = None
    if domain_events_mapper is not None:
        events = EventMap(publish=message_broker is not None)
        _fill(events, "domain_events_mapper", domain_events_mapper)
    return SagaMediator(
        sagas,
        storage=saga_storage,
        container=di_container,
        events=events,
        publisher=message_broker,
        middlewares=middlewares,
        on_startup=on_startup,
        max_concurrent_event_handlers=max_concurrent_event_handlers,
        concurrent_event_handle_enable=concurrent_event_handle_enable,
    )


def _fill(empty: object, name: str, mapper: Callable[[Any], object]) -> None:
    if not is_plain(mapper):
        expected = f"give a plain function that is given a {type(empty).__name__}, and binds to it"
        raise InvalidArgument(name, mapper, expected)
    mapper(empty)
