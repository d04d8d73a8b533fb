"""The lease of one incarnation: which claims it keeps alive, and the daemon thread that does so.

Knows no database: a `Keeper` renews the lease and carries out errands, each in a transaction of its own.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

from attrs import define, evolve, field, frozen

from anysaga._errors import AnysagaError, CorruptRecord, StorageError
from anysaga._records import Claim, Write
from anysaga.storages._clock import Clock


class Keeper(Protocol):
    """What a lease asks of its store. Both may raise `StorageError`; they are then tried again.

    An errand takes no longer than the interval of the lease, which is not renewed meanwhile.
    """

    def renew(self, owner: Owner) -> bool:
        """Renew the lease, in one transaction. False: this incarnation was declared dead."""
        ...

    def run_errand(self, errand: Errand) -> None:
        """Record a write, release a claim or disown an orphan, in one transaction."""
        ...


@define(eq=False)
class Owner:
    """An incarnation: its id, when its lease was renewed (monotonic seconds), and the claims it holds."""

    id: str = field(factory=lambda: uuid.uuid4().hex)
    renewed: float | None = None
    claims: dict[str, Claim] = field(factory=dict[str, Claim])


@define(eq=False)
class Basket:
    """Where claims wait for a caller who may not come back for them. Guarded by the lease's lock."""

    claims: list[Claim] = field(factory=list[Claim])
    forsaken: bool = False


@frozen
class Orphan:
    """A saga that may belong to an owner who does not know of it: the answer to the claim was lost.

    The claim itself may still be on its way, so it is looked for again at each beat until the moment `until`.
    """

    saga_id: str
    fence: int
    owner: str
    until: float = field(default=-math.inf, eq=False)


Errand: TypeAlias = Write | Claim | Orphan

_STOP: Final = object()
_POKE: Final = object()


class Lease:
    """Keeps the claims of this incarnation alive while there are any, `span` seconds at a time.

    A dead incarnation never comes back: its claims are lost, and later ones belong to a fresh one.
    """

    def __init__(self, keeper: Keeper, *, span: float, clock: Clock) -> None:
        self._keeper = weakref.ref(keeper)
        self._clock = clock
        self.span = span
        self.interval = span / 3
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._owner = Owner()
        self._errands: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._kept: deque[Errand] = deque()  # apart, since they would wake who waits at the queue
        self._thread: threading.Thread | None = None
        self._idle = True
        self.taking: set[Orphan] = set()
        """Claims that are about to be committed, and not held yet."""

    @property
    def owner(self) -> Owner:
        """The incarnation that claims from now on."""
        return self._owner

    def is_young(self, owner: Owner) -> bool:
        """Whether the lease surely holds a good while yet: the last renewal is younger than two intervals."""
        return owner.renewed is not None and self._age(owner) < self.span - self.interval

    def holds(self, claim: Claim) -> bool:
        """Whether `claim` is one that this incarnation keeps alive."""
        return not claim.lost and self._owner.claims.get(claim.record.summary.saga_id) is claim

    def hold(self, owner: Owner, claims: Iterable[Claim], basket: Basket) -> None:
        """Keep `claims` alive from now on, and hand them to whoever waits at the basket."""
        with self._lock:
            dead = owner is not self._owner
            for claim in claims:
                owner.claims[claim.record.summary.saga_id] = claim
                basket.claims.append(claim)
            poked, self._idle = self._idle, False
            forsaken = basket.forsaken
        if dead:
            self.bury(owner)
        if forsaken:
            self.forsake(basket)
        if poked:
            self._errands.put(_POKE)

    def forsake(self, basket: Basket) -> None:
        """Release the claims that are in the basket, or come into it, since nobody will use them."""
        with self._lock:
            basket.forsaken = True
            claims, basket.claims = basket.claims, []
        for claim in claims:
            self.defer(claim)

    def let_go(self, saga_id: str, fence: int) -> Claim | None:
        """Keep this claim alive no longer. Returns it, if it was held."""
        with self._lock:
            claim = self._owner.claims.get(saga_id)
            if claim is None or claim.fence != fence:
                return None
            return self._owner.claims.pop(saga_id)

    def knows(self, orphan: Orphan) -> bool:
        """Whether the claim on this saga is held after all, or about to be."""
        with self._lock:
            claim = self._owner.claims.get(orphan.saga_id)
            return orphan in self.taking or (claim is not None and claim.fence == orphan.fence)

    def held(self) -> list[Claim]:
        """The claims that are kept alive at the moment."""
        with self._lock:
            return list(self._owner.claims.values())

    def bury(self, owner: Owner) -> None:
        """Take note that `owner` is no more: lose its claims, and begin a fresh incarnation."""
        with self._lock:
            lost = list(owner.claims.values())
            owner.claims.clear()
            if owner is self._owner:
                self._owner = Owner()
        for claim in lost:
            claim.lose()

    def defer(self, errand: Errand) -> None:
        """Leave an errand to the heartbeat. Takes no lock of Python's, so finalizers may call it."""
        self._errands.put(errand)

    def look_for(self, orphan: Orphan) -> None:
        """Have an orphan disowned, though it may come late."""
        self.defer(evolve(orphan, until=self._clock.monotonic() + self.span))

    def beat(self) -> None:
        """Renew the lease if anything is held, and run the errands. Raises `StorageError`; what failed stays queued."""
        self._take_errands()
        owner = self._owner
        if owner.claims:
            self._renew(owner)
        self._run_errands()

    def start(self) -> None:
        """Start the heartbeat unless it beats. A daemon thread: it ends with the interpreter, the storage or `stop`."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(
                target=_keep_beating, args=(weakref.ref(self), self._errands), name="anysaga-heartbeat", daemon=True
            )
            self._thread.start()
        weakref.finalize(self, self._errands.put, _STOP).atexit = False

    def stop(self) -> None:
        """Stop the heartbeat, waiting for a beat that is under way."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._errands.put(_STOP)
            thread.join()

    def forget_parent(self) -> None:
        """Begin anew in a forked child: the parent's claims, thread and locks stay the parent's."""
        for claim in self._owner.claims.values():
            claim.lost = True  # without its watcher, whose event belongs to a loop of the parent
        self._forget()

    def turn(self, errand: object) -> float | None:
        """One turn of the heartbeat thread. Returns the seconds to wait for the next, None for until poked."""
        if errand is not _POKE and errand is not None:
            self._errands.put(errand)
        self._take_errands()
        try:
            self._renew_if_due()
            self._run_errands()
        except StorageError:
            return self.interval / 4
        with self._lock:
            self._idle = not self._owner.claims
        if self._idle:
            return self.interval if self._kept else None
        return max(self.interval - self._age(self._owner), 0.0)

    def _renew_if_due(self) -> None:
        owner = self._owner
        if owner.claims and (owner.renewed is None or self._age(owner) >= self.interval):
            self._renew(owner)

    def _renew(self, owner: Owner) -> None:
        keeper = self._keeper()
        if keeper is not None and not keeper.renew(owner):
            self.bury(owner)

    def _take_errands(self) -> None:
        for _ in range(self._errands.qsize()):
            try:
                errand = self._errands.get_nowait()
            except queue.Empty:
                return
            if isinstance(errand, Errand):
                self._kept.append(errand)
            else:
                self._errands.put(errand)  # meant for the thread

    def _run_errands(self) -> None:
        for _ in range(len(self._kept)):
            try:
                errand = self._kept.popleft()
            except IndexError:
                return
            self._run_errand(errand)
            self._renew_if_due()  # an outage leaves many of them

    def _run_errand(self, errand: Errand) -> None:
        keeper = self._keeper()
        if keeper is None:
            return
        try:
            keeper.run_errand(errand)
        except CorruptRecord:
            return
        except StorageError:
            self._kept.append(errand)
            raise
        except AnysagaError:
            return  # not eligible any more: the contract says to forget it
        if isinstance(errand, Orphan) and self._clock.monotonic() < errand.until:
            self._kept.append(errand)

    def _age(self, owner: Owner) -> float:
        return 0.0 if owner.renewed is None else self._clock.monotonic() - owner.renewed


def _keep_beating(reference: weakref.ref[Lease], errands: queue.SimpleQueue[object]) -> None:
    wait: float | None = None
    while True:
        errand: object = None
        with contextlib.suppress(queue.Empty):
            errand = errands.get(timeout=wait)
        lease = reference()
        if errand is _STOP or lease is None:
            return
        wait = lease.turn(errand)
        del lease  # so that a storage that nobody uses any more can go
