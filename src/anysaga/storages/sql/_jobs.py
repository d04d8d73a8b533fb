"""What can go into a batch: a saga that begins, a write, a claim given back, the lease's renewal, an orphan."""

from __future__ import annotations

from typing import TypeAlias

from attrs import define, field

from anysaga._records import Claim, NewSaga, Write
from anysaga.storages._lease import Basket, Orphan, Owner


@define(eq=False)
class Creation:
    """A saga that begins. Its claim comes into the basket, unless its id is taken."""

    new: NewSaga
    basket: Basket = field(factory=Basket)


@define(eq=False)
class Recording:
    """A write, and the moment at which it was recorded."""

    write: Write
    at: int = 0


@define(eq=False)
class Release:
    """A claim to give back, due again in `wait` seconds."""

    claim: Claim
    wait: float = 0.0


@define(eq=False)
class Renewal:
    """The lease of an owner, and whether it could be renewed."""

    owner: Owner
    renewed: bool = False


Job: TypeAlias = Creation | Recording | Release | Renewal | Orphan


def saga_of(job: Job) -> str | None:
    """The id of the saga that a job is about."""
    match job:
        case Recording():  # the most common first
            return job.write.saga_id
        case Creation():
            return job.new.saga_id
        case Release():
            return job.claim.record.summary.saga_id
        case Orphan():
            return job.saga_id
        case Renewal():
            return None
