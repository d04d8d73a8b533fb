"""What every store of ours decides alike: pure functions of the contract in `anysaga.abc`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from anysaga._errors import InvalidArgument
from anysaga._records import Entry, SagaState
from anysaga.storages._clock import microseconds

_FREE_CLAIMS = 2
_LONGEST_PATIENCE = 60


def patience(claims: int) -> int:
    """Microseconds until a saga is due again after its `claims`-th claim without an outcome."""
    more = claims - _FREE_CLAIMS
    if more <= 0:
        return 0
    return microseconds(min(2 ** min(more - 1, 6), _LONGEST_PATIENCE))


def same_entries(stored: Sequence[Entry], sent: Sequence[Entry]) -> bool:
    """Whether two runs of entries say the same; the moment is the store's own and does not count."""
    return len(stored) == len(sent) and all(attrs.evolve(a, at=b.at) == b for a, b in zip(stored, sent, strict=True))


def purgeable(states: Iterable[SagaState]) -> frozenset[SagaState]:
    """The states to purge. Raises `InvalidArgument` if one of them says that the saga is still needed."""
    chosen = frozenset(states)
    needed = sorted(state for state in chosen if state is SagaState.PARKED or not state.is_end)
    if needed:
        raise InvalidArgument("states", needed, "only sagas that are over can be forgotten, not live or parked ones")
    return chosen
