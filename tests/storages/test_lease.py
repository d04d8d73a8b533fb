"""The lease by itself, without a store: incarnations that follow each other, and errands that fail for good."""

from __future__ import annotations

from attrs import define, field

from anysaga._errors import CorruptRecord
from anysaga._records import Claim
from anysaga.storages import rules
from anysaga.storages._clock import ManualClock
from anysaga.storages._lease import Basket, Errand, Lease, Owner
from anysaga.testing._storage._harness import new_saga


@define(eq=False)
class Keeper:
    """Renews every lease, and runs all errands but those for damaged sagas."""

    damaged: set[str] = field(factory=set[str])
    ran: list[Errand] = field(factory=list[Errand])

    def renew(self, owner: Owner) -> bool:
        return True

    def run_errand(self, errand: Errand) -> None:
        self.ran.append(errand)
        if isinstance(errand, Claim) and errand.record.summary.saga_id in self.damaged:
            raise CorruptRecord(errand.record.summary.saga_id, "it is damaged")


def _claim(saga_id: str) -> Claim:
    return Claim(rules.claimed(rules.begun(new_saga(saga_id), 0), "web-1"), 1, 0)


def test_an_incarnation_that_is_found_dead_twice_does_not_take_the_next_one_along() -> None:
    """Two tasks may find out at the same time."""
    keeper = Keeper()
    lease = Lease(keeper, span=30.0, clock=ManualClock())
    former = lease.owner
    lease.bury(former)
    claim = _claim("saga-1")
    lease.hold(lease.owner, [claim], Basket())
    lease.bury(former)
    assert lease.holds(claim)


def test_an_errand_for_a_damaged_saga_is_forgotten_and_holds_up_no_other() -> None:
    keeper = Keeper({"damaged"})
    lease = Lease(keeper, span=30.0, clock=ManualClock())
    claims = [_claim("damaged"), _claim("saga-1")]
    for claim in claims:
        lease.defer(claim)
    lease.beat()
    lease.beat()
    assert keeper.ran == claims
