"""Forgetting sagas that ended long ago."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta

from anyio.lowlevel import checkpoint

from anysaga._arguments import check_counts, is_number
from anysaga._errors import InvalidArgument
from anysaga._records import SagaState
from anysaga.abc import Storage
from anysaga.storages.rules import states_of

OVER = (SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.ABANDONED)


async def purge(
    older_than: timedelta | float, states: Iterable[SagaState] = OVER, *, storage: Storage, batch: int = 1000
) -> int:
    """Forget all sagas that ended longer ago than `older_than` (a timedelta, or seconds), and return how many.

    They go in transactions of up to `batch` sagas each, the oldest first, so that other writers come between. Being
    cancelled stops between two of them. Age goes by the clock of this host. Live and parked sagas are never forgotten,
    and neither are those whose events are still to be delivered, or are dead letters.

    Raises `InvalidArgument` for a state that is no end, an age below 0, or a batch below 1; `StorageError`.

        await purge(timedelta(days=30), storage=storage)
    """
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    if not is_number(seconds) or not seconds >= 0:
        raise InvalidArgument("older_than", older_than, "it is a timedelta, or a number of seconds, of 0 or more")
    check_counts(batch=batch)
    if not isinstance(storage, Storage):
        raise InvalidArgument("storage", storage, "give the Storage that has the sagas")
    before = int(max(time.time() - seconds, 0) * 1_000_000)  # nothing is older than that, and it is a stored number
    chosen = states_of(states)
    forgotten = 0
    while True:
        number = await storage.purge(before=before, states=chosen, limit=batch)
        forgotten += number
        if number < batch:
            return forgotten
        await checkpoint()
