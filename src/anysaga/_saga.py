"""The public saga: what a user declares, and starts."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from attrs import evolve

from anysaga._composites import Branch
from anysaga._declaration import Declaration, compile_saga
from anysaga._definition import DEFAULT_GRACE, Definition, UndoFailurePolicy
from anysaga._errors import InvalidArgument
from anysaga._event_map import EventMap
from anysaga._generics import arguments_of
from anysaga._ids import identity_of
from anysaga._methods import retry_leftovers
from anysaga._middleware import Middleware, checked_middlewares
from anysaga._results import SagaResult
from anysaga._retry import Retry
from anysaga._submitting import submit_saga
from anysaga._transaction import SagaTransaction
from anysaga._wiring import GivenContainer, container_of
from anysaga.abc import CircuitStore, Container, Storage
from anysaga.storages import MemoryStorage

ContextT = TypeVar("ContextT")


class Saga(Generic[ContextT]):
    """A transaction across services: steps in order, undone in reverse when one fails.

    Declare one as a class with `steps` (steps, `Fallback`s, `Parallel`s), or make one on the spot:
    ``Saga[Order](name="order", steps=[...])``. The context is a plain attrs class or dataclass. What cannot work is
    refused when the class is declared, with a `DefinitionError` that lists all problems.

    - `name`: part of what is stored; the class's name by default.
    - `version`: raise it when the meaning of the steps changes. A stored saga of another version, or with other steps,
      is parked instead of being guessed at.
    - `timeout`: seconds for going forward; a saga that takes longer is undone. Stored, so it holds across crashes.
    - `compensate_retry`: the default for undoing; 3 attempts, 1 s, doubled.
    - `on_undo_failure`: ``"park"`` stops at the first undo that fails for good, ``"continue"`` undoes the rest first.
    - `events`: what the events of its steps are called, and where they go; see `EventMap`. Without one they go to the
      broker, under the names of their classes.
    - `middlewares`: what stands around each run of the saga, and around each call of its steps; see `Middleware`.
    - `grace`: seconds that undoing may go on after the caller was cancelled; the rest is recovery's.

    `storage` keeps the state. Without one it is a `MemoryStorage` of this saga object's own: nothing survives the
    process. `container` makes the steps and what they need: a mapping ``{type: factory}``, a `Container`, or a
    container of di, dishka, svcs or dependency-injector.

        class OrderSaga(Saga[Order]):
            steps = [ReserveInventory, ChargePayment]

        result = await OrderSaga(storage=storage, container=services).run(order, saga_id="order-17")
    """

    name: str = ""
    version: int = 1
    steps: Sequence[Branch] = ()
    timeout: float | None = None
    compensate_retry: Retry | None = None
    on_undo_failure: UndoFailurePolicy = "park"
    grace: float = DEFAULT_GRACE
    events: EventMap | None = None
    middlewares: Sequence[Middleware] = ()

    _compiled: ClassVar[Definition | None] = None
    _compiled_from: ClassVar[tuple[object, ...]] = ()
    _definition: Definition | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._compiled = compile_saga(_declaration(cls, cls, _context_of(cls))) if cls.steps else None
        cls._compiled_from = _stated(cls) if cls.steps else ()

    def __init__(
        self,
        *,
        storage: Storage | None = None,
        container: GivenContainer | None = None,
        name: str | None = None,
        steps: Sequence[Branch] | None = None,
        version: int | None = None,
        timeout: float | None = None,
        compensate_retry: Retry | None = None,
        on_undo_failure: UndoFailurePolicy | None = None,
        grace: float | None = None,
        events: EventMap | None = None,
        middlewares: Iterable[Middleware] | None = None,
    ) -> None:
        self._storage = checked_storage(storage)
        self._container = container_of(container)
        self._middlewares = checked_middlewares(self.middlewares if middlewares is None else middlewares)
        given = {
            "name": name,
            "steps": steps,
            "version": version,
            "timeout": timeout,
            "compensate_retry": compensate_retry,
            "on_undo_failure": on_undo_failure,
            "grace": grace,
            "events": events,
        }
        changed = {key: value for key, value in given.items() if value is not None}
        for key, value in changed.items():
            setattr(self, key, value)
        self._definition = None if changed or self._compiled_from != _stated(self) else self._compiled
        checked = self._definition
        if checked is None:
            checked = compile_saga(_declaration(self, type(self), _context_of(type(self)), checking=True))
        _check_circuits(checked, self._storage)

    def moved_to(
        self,
        storage: Storage,
        container: GivenContainer | None = None,
        *,
        inside: Iterable[Middleware] = (),
        events: EventMap | None = None,
    ) -> Self:
        """The same saga in another storage, with another container if one is given, `inside` of more middlewares.

        `events` is used where the saga has no `EventMap` of its own.
        """
        moved = copy.copy(self)
        moved._storage = checked_storage(storage)
        moved._container = self._container if container is None else container_of(container)
        if events is not None and self.events is None:
            moved.events, moved._definition = events, evolve(self.definition, events=events)
        moved._middlewares = (*checked_middlewares(inside), *self._middlewares)
        _check_circuits(self.definition, storage)
        return moved

    @property
    def definition(self) -> Definition:
        """The compiled saga. Raises `DefinitionError` if a context type given as ``Saga[Order](...)`` does not fit."""
        if self._definition is None:
            context = getattr(self, "__orig_class__", type(self))
            arguments = getattr(context, "__args__", None) or (_context_of(type(self)),)
            self._definition = compile_saga(_declaration(self, type(self), arguments[0]))
        return self._definition

    @property
    def storage(self) -> Storage:
        """Where this saga is kept."""
        return self._storage

    @property
    def container(self) -> Container:
        """What makes this saga's steps."""
        return self._container

    def transaction(
        self, context: ContextT | None = None, *, saga_id: str | uuid.UUID | None = None
    ) -> SagaTransaction[ContextT]:
        """A run of this saga to watch step by step; see `SagaTransaction`.

        Without a `saga_id` a new one is made. With the id of a stored saga, that saga goes on: the stored context wins,
        and the caller's object is filled in place. With None as the context only a stored saga is opened.

        Raises `InvalidArgument` for an id that cannot be one, and for neither context nor id.
        """
        _check_made(self, "transaction")
        if context is None and saga_id is None:
            raise InvalidArgument("context", None, "give a context to start with, or the saga_id of a stored saga")
        return self._transaction(context, identity_of(saga_id))

    def _transaction(
        self, context: ContextT | None, saga_id: str, *, drains: bool = False
    ) -> SagaTransaction[ContextT]:
        return SagaTransaction(
            self.definition,
            self._storage,
            self._container,
            context,
            saga_id,
            middlewares=self._middlewares,
            drains=drains,
        )

    async def run(
        self, context: ContextT | None = None, *, saga_id: str | uuid.UUID | None = None
    ) -> SagaResult[ContextT]:
        """Run the saga to its end and return its result.

        The same as iterating a `transaction` without looking: the same errors, the same undoing on cancellation.
        """
        _check_made(self, "run")
        transaction = self.transaction(context, saga_id=saga_id)
        transaction.stay_in_one_task()
        async with transaction:
            await transaction.run_to_end()
        return transaction.result

    async def submit(self, context: ContextT, *, saga_id: str | uuid.UUID | None = None) -> str:
        """Leave the saga to the workers, and return its id. It is stored when this returns; nothing of it has run.

        A `SagaWorker` on the same storage, in this process or in another one, takes it up as soon as it has room.
        Submitting the same id and context again changes nothing, wherever the saga stands, so a call that failed can
        be repeated. The saga's time limit runs from here.

        Raises `NotStorable` for a context that cannot be stored, `SagaMismatch` if there is another saga of this id or
        one with another context, `StorageError`.

            await OrderSaga(storage=storage).submit(order, saga_id=f"order-{order.order_id}")
        """
        identity = identity_of(saga_id)
        await submit_saga(self.definition, self._storage, context, identity)
        return identity


def _check_made(saga: object, method: str) -> None:
    """Raise `InvalidArgument` for a method of the class: what was given as the context stands in the saga's place."""
    if not isinstance(saga, Saga):
        raise InvalidArgument("saga", saga, f"make the saga first: `OrderSaga(...).{method}(context)`")


def _check_circuits(definition: Definition, storage: Storage) -> None:
    if definition.shares_circuits and not isinstance(storage, CircuitStore):
        raise InvalidArgument(
            "storage",
            storage,
            "a circuit breaker of this saga is `shared`, and this storage keeps no circuits: use SQLAlchemyStorage, "
            "implement CircuitStore, or leave `shared` out",
        )


def made_saga(given: object, **options: Any) -> Saga[Any]:
    """The saga that was given, or one of the class that was, made with `options`. Raises `InvalidArgument`."""
    if isinstance(given, Saga):
        return given
    if isinstance(given, type) and issubclass(given, Saga):
        return given(**options)
    raise InvalidArgument("saga", given, "give a class derived from anysaga.Saga, or a saga")


def made_sagas(given: object) -> list[Saga[Any]]:
    """Several of them, at least one, and each of a name and version of its own."""
    if not isinstance(given, Iterable):
        raise InvalidArgument("sagas", given, "give a list of sagas, even if it is only one")
    made = [made_saga(each) for each in given]
    if not made:
        raise InvalidArgument("sagas", made, "name at least one saga")
    for number, saga in enumerate(made):
        refuse_namesake(saga, made[:number])
    return made


def refuse_namesake(saga: Saga[Any], others: Iterable[Saga[Any]]) -> None:
    """Raise `InvalidArgument` if another saga has this name and version: nobody could say whose a stored one is."""
    mine = saga.definition
    for other in others:
        theirs = other.definition
        if theirs is not mine and (theirs.name, theirs.version) == (mine.name, mine.version):
            words = f"two different sagas have it and version {mine.version}: give each its own name or version"
            raise InvalidArgument("name", mine.name, words)


def checked_storage(storage: Storage | None) -> Storage:
    """The storage that was given, or one in memory. Raises `InvalidArgument`."""
    if storage is None:
        return MemoryStorage()
    if isinstance(storage, Storage):
        return storage
    raise InvalidArgument(
        "storage",
        storage,
        "give a Storage, such as SQLAlchemyStorage(url); only blocking calls, such as run_saga, take a text",
    )


def _stated(source: Any) -> tuple[object, ...]:
    """What a definition is compiled from: a class may get other steps after it was declared."""
    steps = tuple(source.steps) if isinstance(source.steps, list) else source.steps
    limits = source.timeout, source.compensate_retry, source.on_undo_failure, source.grace
    return source.name, source.version, steps, *limits, source.events


def _context_of(kind: type) -> Any:
    return arguments_of(kind, Saga)[0]


def _misuses(source: Any, kind: type) -> Iterator[str]:
    for name in ("storage", "container"):
        if getattr(kind, name) is not getattr(Saga, name):
            yield f"a class has no `{name}`: give it where the saga is made, as in `{kind.__name__}({name}=...)`"
    yield from retry_leftovers(kind)
    if source is not kind and "_storage" not in vars(source):
        yield "its `__init__` leaves out that of Saga: have it call `super().__init__(storage=..., container=...)`"


def _declaration(source: Any, kind: type, context_type: Any, *, checking: bool = False) -> Declaration:
    return Declaration(
        name=source.name or kind.__name__,
        version=source.version,
        steps=source.steps,
        context_type=context_type,
        timeout=source.timeout,
        compensate_retry=source.compensate_retry,
        on_undo_failure=source.on_undo_failure,
        grace=source.grace,
        events=source.events,
        context_may_follow=checking,
        misuses=tuple(_misuses(source, kind)),
    )
