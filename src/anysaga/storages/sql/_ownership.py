"""For whom sagas are claimed: one incarnation after another, and the rows that say until when each of them lives."""

from __future__ import annotations

import os
import socket

import sqlalchemy as sa

from anysaga.storages._clock import Clock, microseconds
from anysaga.storages._lease import Lease, Owner
from anysaga.storages.sql._operations import Operations


class Ownership:
    """The lease, as seen inside transactions."""

    def __init__(self, lease: Lease, operations: Operations, *, label: str | None, clock: Clock) -> None:
        self.lease = lease
        self._operations = operations
        self._label = label
        self._clock = clock

    @property
    def label(self) -> str:
        """What `find` and errors call this incarnation."""
        return (self._label or f"{socket.gethostname()}:{os.getpid()}")[:200]

    @property
    def is_young(self) -> bool:
        """Whether sagas can begin for the owner without its lease being renewed before."""
        return self.lease.is_young(self.lease.owner)

    def renew(self, connection: sa.Connection, owner: Owner, now: int) -> float | None:
        """Renew the lease. Returns since when it holds, to be noted once that is durable; None: the owner is dead."""
        begun = self._clock.monotonic()
        return begun if self._operations.renew(connection, owner.id, self._expiry(now)) else None

    def secure(self, connection: sa.Connection, now: int) -> tuple[Owner, float | None]:
        """The owner to claim for, its lease good for a while, and since when, if this transaction renews it.

        Wherever there is no row to renew, a fresh id is entered: the row of the old one may be there and dead.
        """
        owner = self.lease.owner
        if self.lease.is_young(owner) and self._operations.is_alive(connection, owner.id, now):
            return owner, None
        renewed = self.renew(connection, owner, now)
        if renewed is not None:
            return owner, renewed
        self.lease.bury(owner)
        owner, begun = self.lease.owner, self._clock.monotonic()
        self._operations.register(connection, owner.id, self.label, self._expiry(now))
        return owner, begun

    def lose(self, saga_id: str, fence: int) -> None:
        """Take note that a claim was overtaken."""
        claim = self.lease.let_go(saga_id, fence)
        if claim is not None:
            claim.lose()

    def _expiry(self, now: int) -> int:
        return now + microseconds(self.lease.span)
