"""Which events there are: what each is called where it is stored, and where it goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from attrs import define, frozen

from anysaga._arguments import is_name
from anysaga._errors import InvalidArgument, NotStorable
from anysaga._limits import MAX_DESTINATION, MAX_NAME
from anysaga._signatures import has_yield, takes
from anysaga._snapshot import Codec, codec_for, has_fields

EventT = TypeVar("EventT")

BROKER = "broker"
"""The destination of events that a publisher sends."""


class EventHandler(Generic[EventT]):
    """Handles events of one type; its constructor is filled from the container, for each event anew.

    It may get an event more than once, after a crash or when it failed: `current_message` tells the event's id, which
    is always the same. What it raises is logged, and the event comes again later; the saga goes on meanwhile.

        class SendReceipt(EventHandler[Paid]):
            def __init__(self, mail: Mail) -> None:
                self.mail = mail

            async def handle(self, event: Paid) -> None:
                await self.mail.send(event.customer, key=current_message().id)
    """

    def handle(self, event: EventT, /) -> Any:
        """Handle an event: ``async``, or a plain function, which runs in a worker thread."""
        raise NotImplementedError


GivenHandler: TypeAlias = "type[EventHandler[EventT]] | Callable[[EventT], object]"
"""A handler's class, or a function of the event."""


@frozen(eq=False)
class Binding:
    """One type of events. `handlers` are by the names of their destinations."""

    name: str
    codec: Codec[Any]
    handlers: dict[str, GivenHandler[Any]]
    is_published: bool

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where events of this type go."""
        return (*((BROKER,) if self.is_published else ()), *self.handlers)


@define(eq=False, repr=False)
class Target:
    """One handler, and the types of events that it is bound to, by their names."""

    handler: GivenHandler[Any]
    types: dict[str, Binding]


class EventMap:
    """Binds types of events to handlers. Events are attrs classes or dataclasses.

    Every event goes to the broker, unless `publish` is False, and to each handler of its type, to each on its own: one
    that fails holds up no other. A type that is not bound goes to the broker only, under the name of its class.

    What an event is called, and where it goes, is settled when a step records it; so a saga's worker needs the same
    map as whoever relays the events.

        events = EventMap()
        events.bind(InventoryReserved, UpdateCatalogue, AnnounceShortage)
        events.bind(Paid, SendReceipt, name="order.paid", publish=False)
    """

    def __init__(self, *, publish: bool = True) -> None:
        self._publish = publish
        self._bindings: dict[type, Binding] = {}
        self._names: dict[str, type] = {}
        self.targets: dict[str, Target] = {}

    def bind(
        self,
        event: type[EventT],
        *handlers: GivenHandler[EventT],
        name: str | None = None,
        publish: bool | None = None,
    ) -> Self:
        """Bind a type of events to handlers, more of them at each call.

        `name` is what it is called in the store and in messages; the class's name by default. `publish` says whether it
        goes to the broker as well.

        Raises `NotStorable` if its values cannot be stored, `InvalidArgument` for a name that another type has or that
        is too long, and for what is no handler.
        """
        before = self._bindings.get(event)
        if before is not None:
            name = before.name if name is None else name
            publish = before.is_published if publish is None else publish
        made = _binding(event, name, is_published=self._publish if publish is None else publish)
        self._refuse_known_name(made.name, event)
        if before is not None:
            made.handlers.update(before.handlers)
        for handler in handlers:
            destination = self._destination(handler)
            made.handlers[destination] = handler
            self.targets.setdefault(destination, Target(handler, {}))
        for destination in made.handlers:
            self.targets[destination].types[made.name] = made
        self._names[made.name] = event
        self._bindings[event] = made
        return self

    def binding_of(self, event: type) -> Binding:
        """The binding of a type of events. Raises `NotStorable` if it is not bound and cannot be stored."""
        found = self._bindings.get(event)
        if found is None:
            found = _binding(event, None, is_published=self._publish)
            self._refuse_known_name(found.name, event)
            self._bindings[event] = found
            self._names[found.name] = event
        return found

    def _refuse_known_name(self, name: str, event: type) -> None:
        other = self._names.get(name, event)
        if other is not event:
            raise InvalidArgument("name", name, f"{other.__qualname__} is called that: bind {event!r} by another name")

    def _destination(self, handler: GivenHandler[Any]) -> str:
        problem = _problem(handler)
        if problem is not None:
            raise InvalidArgument("handler", handler, problem)
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        destination = f"handler:{name}"
        known = self.targets.get(destination)
        if known is not None and known.handler != handler:  # a method is another object each time
            raise InvalidArgument("handler", handler, f"another handler is called {name!r}: rename one of them")
        if len(destination) > MAX_DESTINATION:
            raise InvalidArgument("handler", handler, f"its name may have {MAX_DESTINATION - 8} characters")
        return destination


def check_map(given: object) -> EventMap:
    """What was given, if it is an `EventMap`. Raises `InvalidArgument`."""
    if not isinstance(given, EventMap):
        raise InvalidArgument("events", given, "give an EventMap, to which handlers were bound: EventMap().bind(...)")
    return given


def _problem(handler: object) -> str | None:
    """Why this is no handler; of callables that are no functions of Python nothing is said."""
    is_class = isinstance(handler, type)
    if not callable(getattr(handler, "handle", None) if is_class else handler):
        return "give a class with a method `handle`, or a function of the event"
    if is_class and getattr(handler, "handle", None) is EventHandler.handle:
        return "it does not define `handle`"
    if is_class and isinstance(inspect.getattr_static(handler, "events", None), property):
        return "it has a property `events`, as with python-cqrs, which nobody reads here: have `handle` do what follows"
    method = inspect.getattr_static(handler, "handle") if is_class else handler
    has_self = isinstance(method, MethodType) or (is_class and not isinstance(method, staticmethod))
    function = getattr(method, "__func__", method)
    if has_yield(function):
        return "it has a `yield`, so that calling it does nothing: handle the event and return"
    if isinstance(function, FunctionType) and not takes(function, 2 if has_self else 1):
        return "it cannot be called with the event alone"
    return None


def _binding(event: type, name: str | None, *, is_published: bool) -> Binding:
    if not isinstance(event, type):
        raise InvalidArgument("event", event, "give an attrs class or a dataclass")
    name = event.__name__ if name is None else name
    if not is_name(name):
        raise InvalidArgument("name", name, f"give a text of 1 to {MAX_NAME} printable characters")
    if issubclass(event, type):
        raise NotStorable("the event", "it is a class: record an object of it")
    if not has_fields(event):
        raise NotStorable(
            f"the event {name}", "it is neither an attrs class nor a dataclass, whose name says what happened"
        )
    return Binding(name, codec_for(event, where=f"the event {name}"), {}, is_published)
