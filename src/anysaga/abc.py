"""The contracts: what anysaga asks of stores, containers, publishers and breakers. Write your own from this page."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol, Self, TypeVar, runtime_checkable

import anyio

from anysaga._crossing_threads import has_loop
from anysaga._errors import BlockingCallInLoop
from anysaga._guard import Breaker as Breaker
from anysaga._guard import CircuitRecord as CircuitRecord
from anysaga._guard import CircuitStore as CircuitStore
from anysaga._outbox import Delivery as Delivery
from anysaga._outbox import Message as Message
from anysaga._outbox import Outbox as Outbox
from anysaga._outbox import OutboxLag as OutboxLag
from anysaga._outbox import Publisher as Publisher
from anysaga._outbox import Settlement as Settlement
from anysaga._records import LIVE_STATES as LIVE_STATES
from anysaga._records import Claim as Claim
from anysaga._records import Entry as Entry
from anysaga._records import EntryKind as EntryKind
from anysaga._records import NewSaga as NewSaga
from anysaga._records import SagaRecord as SagaRecord
from anysaga._records import SagaState as SagaState
from anysaga._records import SagaSummary as SagaSummary
from anysaga._records import StoredEvent as StoredEvent
from anysaga._records import Write as Write

_T = TypeVar("_T")


class Storage(ABC):
    """Keeps sagas. Each verb is one transaction: true on its own, durable when it returns, or without any effect.

    **Ownership.** A saga has at most one owner, an *incarnation*: one storage object in one process. The storage
    keeps the claims of its own incarnation alive by itself until they are released. A saga is *free* when it has no
    owner, or when its owner is dead: it did not renew in time and somebody marked it dead for ever.

    **Fences.** A claim raises the saga's `fence` by one. Every later write carries it and is refused with `StaleFence`
    unless it is the current one.

    **Cancellation.** A verb that is cancelled after its transaction began still completes it; a claim that nobody
    received because of that is given back by the storage.

    **Errors.** `StorageError` (a subclass) when the store itself fails; a saga's state is then what it was, or, when
    only the answer was lost, what the write made it. The driver calls `record` again with the same `Write` then.

    A storage opens itself at its first verb, and closes at the end of ``async with``. It may be used by several event
    loops in several threads at once.
    """

    waits: ClassVar[bool] = True
    """False for a store whose verbs never wait for anything: the engine then need not shield them."""

    @abstractmethod
    async def create(self, new: NewSaga) -> Claim | None:
        """Keep a new saga with fence 1, owned by this incarnation, together with its first entries.

        Returns None, and changes nothing, if a saga of this id is there already, in whatever state.
        The stored seq is that of the last entry; `claims` is 1; the deadline is now + `timeout`.
        """

    @abstractmethod
    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        """Take a free saga whose state is among `states`, whenever its next attempt is due.

        In one transaction: the owner becomes this incarnation, the fence and the count of claims rise by one. Returns
        the claim with the record as it is after that.

        Raises `SagaNotFound`; `SagaAlreadyRunning` if a living incarnation (this one too) owns it; and
        `OperationRefused` if its state is not among `states`.
        """

    @abstractmethod
    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        """Take up to `limit` free sagas of these saga names that are live and due, the longest due first.

        Live: PENDING, RUNNING or COMPENSATING. Due: `next_attempt_at` is not after now. Each is claimed as `claim`
        does; in addition `next_attempt_at` moves on, further with every claim without an outcome, so that a saga that
        kills its workers does not starve the others.
        """

    @abstractmethod
    async def record(self, write: Write) -> int:
        """Append the write's entries and set the saga's state, all in one commit. Returns its moment (`Entry.at`).

        Eligible: `write.fence` is the saga's fence, and the saga's seq is `write.before`. If the seq is already
        `write.after` and the stored entries equal those of the write, it was recorded before: success.
        Anything else raises `StaleFence` (`SagaNotFound` if there is no such saga) and changes nothing.

        `next_attempt_at` becomes now + `write.wait`. `claims` goes to 0 if `write.settles`. If `write.frees`, the saga
        has no owner afterwards, and its fence stays.
        """

    @abstractmethod
    async def confirm(self, claim: Claim) -> None:
        """Return if this claim certainly still holds; called before every act, undo and probe.

        Costs nothing while the last renewal of the lease is young. Otherwise renews the lease and compares the fence.
        Raises `StaleFence` if the claim is lost.
        """

    @abstractmethod
    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        """Give a claim back without an entry: no owner, one claim less counted, due again in `wait` seconds.

        Does nothing if the fence is no longer current. A release that fails is left to the storage as well, as by
        `defer`, before the error is raised: else nobody could take the saga while this incarnation lives.
        """

    @abstractmethod
    def defer(self, work: Write | Claim) -> None:
        """Have a write recorded, or a claim released, soon by the storage itself. For finalizers and threads.

        Never blocks and never raises. What fails is tried again at the next heartbeat; what is no longer eligible by
        then is forgotten.
        """

    @abstractmethod
    async def load(self, saga_id: str) -> SagaRecord:
        """Read a saga, whoever owns it. Raises `SagaNotFound`."""

    @abstractmethod
    async def find(
        self,
        *,
        names: Iterable[str] = (),
        states: Iterable[SagaState] = (),
        limit: int = 100,
        after: str = "",
    ) -> list[SagaSummary]:
        """List sagas of these names and states (empty: of all), with ids greater than `after`, in the order of ids."""

    @abstractmethod
    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        """Forget up to `limit` sagas that are in one of these end states since before the moment `before`.

        Returns how many. An `Outbox` keeps a saga until its events are delivered or skipped: started again under its id
        it would send others under their ids. Raises `InvalidArgument` if a state is live or PARKED: such a saga is
        still needed.
        """

    async def open(self) -> None:
        """Get ready. Called by ``async with`` and ``with``; the first verb does the same where both are left out."""

    async def aclose(self) -> None:
        """Release what this incarnation still owns, and let go of files and connections. Safe to call twice.

        Any verb after that raises `StorageClosed`.
        """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        """Open it in code without an event loop. Raises `BlockingCallInLoop` inside of one."""
        _call_without_loop(self.open)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        _call_without_loop(self.aclose)


def _call_without_loop(function: Callable[[], Awaitable[None]]) -> None:
    if has_loop():
        raise BlockingCallInLoop("`with storage`", "async with storage")
    anyio.run(function)


@runtime_checkable
class Scope(Protocol):
    """What a container hands out for the time of one saga."""

    async def get(self, wanted: type[_T], /) -> _T:
        """Make or find an instance of `wanted`. Raises `NotProvided` if there is no way to."""
        ...


@runtime_checkable
class Container(Protocol):
    """Makes steps and what they need. The scope lives for a whole saga: resources close after its last act or undo."""

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Open a scope, as an asynchronous context manager, entered and left in one task."""
        ...
