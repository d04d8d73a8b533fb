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
    """Renews every lease, and runs all errands but those for damaged sagas. Each takes `seconds`."""

    damaged: set[str] = field(factory=set[str])
    ran: list[Errand] = field(factory=list[Errand])
    clock: ManualClock = field(factory=ManualClock)
    seconds: float = 0.0
    ages: list[float] = field(factory=list[float])

    def renew(self, owner: Owner) -> bool:
        self.ages.append(self.clock.monotonic() - (owner.renewed or 0.0))
        owner.renewed = self.clock.monotonic()
        return True

    def run_errand(self, errand: Errand) -> None:
        self.ran.append(errand)
        self.clock.advance(self.seconds)
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


def test_a_lease_is_renewed_in_time_however_many_errands_there_are() -> None:
    """After an outage there is one for each saga that could not be begun, or not be given back."""
    keeper = Keeper(seconds=4.0)
    lease = Lease(keeper, span=30.0, clock=keeper.clock)
    lease.owner.renewed = keeper.clock.monotonic()
    lease.hold(lease.owner, [_claim("held")], Basket())
    errands = [_claim(f"saga-{number}") for number in range(20)]
    for errand in errands:
        lease.defer(errand)
    lease.turn(None)
    assert keeper.ran == errands
    assert max(keeper.ages) <= lease.interval + keeper.seconds
